from __future__ import annotations

from typing import TYPE_CHECKING, Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.response import Response

from apps.access import services as access
from apps.access.auth import caller_of
from apps.core.api.bodies import read_nothing, read_reason
from apps.core.api.creation import IDEMPOTENCY_KEY, answer_once
from apps.core.api.parameters import Parameters
from apps.core.api.scope import PUBLIC
from apps.core.api.views import ApiView
from apps.core.errors import Forbidden, NotFound
from apps.definitions import queries as definitions
from apps.runs import listing, queries
from apps.runs.api import request_serializers as bodies
from apps.runs.api import requests
from apps.runs.api.serializers import (
    AttemptListSerializer,
    AttemptSerializer,
    EventListSerializer,
    EventSerializer,
    HealthSerializer,
    OpRunBatchSerializer,
    OpRunDetailSerializer,
    OpRunPageSerializer,
    OpRunSerializer,
)
from apps.runs.services import control, reports, submission
from apps.runs.states import RunState

if TYPE_CHECKING:
    from uuid import UUID

    from rest_framework.request import Request

    from apps.access.auth import Caller
    from apps.runs.models import Run

ATTEMPT = OpenApiParameter("attempt", int, description="The live attempt by default.")


class DefinitionRunListView(ApiView):
    scope = {"POST": "write"}

    @extend_schema(
        operation_id="create_definition_run",
        parameters=[
            OpenApiParameter("version", str, description="Without it the latest."),
            IDEMPOTENCY_KEY,
        ],
        request=bodies.DefinitionRunCreateSerializer,
        responses={201: OpRunSerializer},
    )
    def post(self, request: Request, name: str) -> Response:
        """Run a definition."""
        version = Parameters(request.query_params).text("version")

        def create() -> tuple[int, Any]:
            definition = definitions.get_definition(
                name=name, version=version, caller=caller_of(request)
            )
            spec = requests.read_definition_run(
                request.data, definition=definition, caller=caller_of(request)
            )
            return 201, _created([spec], caller_of(request))[0]

        return answer_once(request, once=access.once, create=create)


class RunListView(ApiView):
    scope = {"GET": "read", "POST": "admin"}

    @extend_schema(
        operation_id="list_runs",
        parameters=[
            OpenApiParameter("limit", int, description="1–100, default 10."),
            OpenApiParameter("starting_after", str, description="Runs older than this run id."),
            OpenApiParameter("ending_before", str, description="Runs newer than this run id."),
            OpenApiParameter(
                "state", str, many=True, enum=list(RunState), description="Repeatable."
            ),
            OpenApiParameter("status", str, many=True, enum=list(RunState), description="= state."),
            OpenApiParameter("op_definition", str),
            OpenApiParameter("image", str),
            OpenApiParameter("topic", str),
            *(
                OpenApiParameter(f"created[{bound}]", float, description="Unix seconds.")
                for bound in ("gte", "lte", "gt", "lt")
            ),
            OpenApiParameter("execution_id", str),
        ],
        responses=OpRunPageSerializer,
    )
    def get(self, request: Request) -> Response:
        """List runs, newest first."""
        page = _read_page(request)
        runs, has_more = listing.runs_page(caller=caller_of(request), **page)
        return Response({"data": OpRunSerializer(runs, many=True).data, "has_more": has_more})

    @extend_schema(
        operation_id="create_run",
        parameters=[IDEMPOTENCY_KEY],
        request=bodies.AdHocRunCreateSerializer,
        responses={201: OpRunSerializer},
    )
    def post(self, request: Request) -> Response:
        """Run an image, a command or a Python callable that no definition describes."""

        def create() -> tuple[int, Any]:
            spec = requests.read_ad_hoc_run(request.data, caller=caller_of(request))
            return 201, _created([spec], caller_of(request))[0]

        return answer_once(request, once=access.once, create=create)


class RunBatchView(ApiView):
    scope = "write"

    @extend_schema(
        operation_id="create_runs",
        parameters=[IDEMPOTENCY_KEY],
        request=bodies.RunBatchCreateSerializer,
        responses={201: OpRunBatchSerializer},
    )
    def post(self, request: Request) -> Response:
        """Create 1–1000 runs of either form in one transaction; an ad-hoc one needs `admin`."""

        def create() -> tuple[int, Any]:
            specs = requests.read_batch(request.data, caller=caller_of(request))
            return 201, {"data": _created(specs, caller_of(request))}

        return answer_once(request, once=access.once, create=create)


class RunDetailView(ApiView):
    scope = {"GET": "read", "PATCH": "write"}
    run_token = True

    @extend_schema(operation_id="get_run", responses=OpRunDetailSerializer)
    def get(self, request: Request, run_id: UUID) -> Response:
        """Get a run with the timeline of its live attempt."""
        run = _run(request, run_id)
        return Response(_detail(run))

    @extend_schema(
        operation_id="update_run",
        request=bodies.RunUpdateSerializer,
        responses=OpRunDetailSerializer,
    )
    def patch(self, request: Request, run_id: UUID) -> Response:
        """Change priority or metadata; or, as the executing worker, state and outputs."""
        _require_own(caller_of(request), run_id)
        change = requests.read_change(request.data)
        if change.report is not None:
            _report(change.report, run_id=run_id, caller=caller_of(request))
        else:
            control.update_run(
                run_id=run_id,
                caller=caller_of(request),
                priority=change.priority,
                metadata=change.metadata,
            )
        return Response(_detail(_run(request, run_id)))


class RunEventListView(ApiView):
    scope = {"GET": "read", "POST": "write"}
    run_token = True

    @extend_schema(
        operation_id="list_run_events",
        parameters=[ATTEMPT, OpenApiParameter("after", int, description="Events above this id.")],
        responses=EventListSerializer,
    )
    def get(self, request: Request, run_id: UUID) -> Response:
        """List the timeline of an attempt."""
        query = Parameters(request.query_params)
        attempt = query.integer("attempt", default=0, low=1, high=2**31 - 1)
        after = query.integer("after", default=-1, low=-1, high=2**31 - 1)
        query.finish()
        run = _run(request, run_id)
        number = queries.require_attempt(run, attempt or None)
        events = queries.timeline(run, attempt=number, after=after)
        return Response({"data": EventSerializer(events, many=True).data})

    @extend_schema(
        operation_id="report_run_event",
        parameters=[IDEMPOTENCY_KEY],
        request=bodies.EventCreateSerializer,
        responses={201: EventSerializer},
    )
    def post(self, request: Request, run_id: UUID) -> Response:
        """Report an event of the attempt this worker executes."""
        _require_own(caller_of(request), run_id)

        def create() -> tuple[int, Any]:
            report = requests.read_report(request.data, is_op=caller_of(request).run_id is not None)
            return 201, _report(report, run_id=run_id, caller=caller_of(request))

        return answer_once(request, once=access.once, create=create)


class RunAttemptListView(ApiView):
    scope = "read"

    @extend_schema(operation_id="list_run_attempts", responses=AttemptListSerializer)
    def get(self, request: Request, run_id: UUID) -> Response:
        """List every attempt of a run with its timeline."""
        attempts = queries.attempts(_run(request, run_id))
        return Response({"data": AttemptSerializer(attempts, many=True).data})


class RunAttemptDetailView(ApiView):
    scope = "read"

    @extend_schema(operation_id="get_run_attempt", responses=AttemptSerializer)
    def get(self, request: Request, run_id: UUID, number: int) -> Response:
        """Get one attempt of a run with its timeline."""
        attempt = queries.get_attempt(_run(request, run_id), number)
        return Response(AttemptSerializer(attempt).data)


class RunCancelView(ApiView):
    scope = "write"

    @extend_schema(
        operation_id="cancel_run",
        request=bodies.RunCancelSerializer,
        responses=OpRunDetailSerializer,
    )
    def post(self, request: Request, run_id: UUID) -> Response:
        """Cancel a run: at once while it waits; a running op is asked to stop first."""
        reason = read_reason(request.data)
        run = control.cancel_run(run_id=run_id, caller=caller_of(request), reason=reason)
        return Response(_detail(run))


class RunRetryView(ApiView):
    scope = "write"

    @extend_schema(operation_id="retry_run", request=None, responses=OpRunDetailSerializer)
    def post(self, request: Request, run_id: UUID) -> Response:
        """Start the next attempt of a FAILED or CANCELLED run."""
        read_nothing(request.data)
        return Response(_detail(control.retry_run(run_id=run_id, caller=caller_of(request))))


class HealthView(ApiView):
    scope = PUBLIC

    @extend_schema(operation_id="get_health", auth=[], responses=HealthSerializer)
    def get(self, request: Request) -> Response:
        """Say that the process answers; needs no key."""
        return Response({"status": "ok"})


def _created(specs: list[submission.RunSpec], caller: Caller) -> list[Any]:
    runs = submission.create_runs(requests=specs, owner=caller.owner)
    return list(OpRunSerializer(runs, many=True).data)


def _detail(run: Run) -> Any:
    events = queries.timeline(run, attempt=run.current_attempt)
    return OpRunDetailSerializer(run, events=events).data


def _run(request: Request, run_id: UUID) -> Run:
    _require_own(caller_of(request), run_id)
    return queries.get_run(run_id=run_id, caller=caller_of(request))


def _require_own(caller: Caller, run_id: UUID) -> None:
    """Refuse an op that reaches, with its run token, for another run."""
    if caller.run_id is not None and caller.run_id != run_id:
        raise NotFound(f"no run {run_id}", run_id=str(run_id))


def _report(report: requests.Report, *, run_id: UUID, caller: Caller) -> Any:
    attempt, lease = report.attempt, report.lease
    if caller.run_id is not None:
        if lease is not None:
            raise Forbidden("an op does not move its own run: it exits")
        attempt = caller.attempt or 0
    if report.type is None:
        reports.report_outputs(
            run_id=run_id,
            caller=caller,
            attempt=attempt,
            lease=lease,
            outputs=report.outputs or {},
        )
        return None
    event = reports.report(
        run_id=run_id,
        caller=caller,
        attempt=attempt,
        lease=lease,
        type=report.type,
        msg=report.msg,
        payload=report.payload,
        outputs=report.outputs,
    )
    return EventSerializer(event).data


def _read_page(request: Request) -> dict[str, Any]:
    query = Parameters(request.query_params)
    states, unknown = requests.read_states(query.many("state", "status"))
    for name in unknown:
        query.fail("state", f"{name!r} is no state; there are {', '.join(RunState)}")
    page = {
        "limit": query.integer("limit", default=10, low=1, high=100),
        "starting_after": query.uuid("starting_after"),
        "ending_before": query.uuid("ending_before"),
    }
    if page["starting_after"] and page["ending_before"]:
        query.fail("ending_before", "can't be given beside starting_after")
    chosen = listing.RunFilter(
        states=tuple(states),
        op_definition=query.text("op_definition"),
        image=query.text("image"),
        topic=query.text("topic"),
        execution_id=query.uuid("execution_id"),
        created_gte=query.seconds("created[gte]"),
        created_gt=query.seconds("created[gt]"),
        created_lte=query.seconds("created[lte]"),
        created_lt=query.seconds("created[lt]"),
    )
    query.finish()
    return {**page, "chosen": chosen}
