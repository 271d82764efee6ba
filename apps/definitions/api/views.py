from __future__ import annotations

from typing import TYPE_CHECKING, Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.response import Response

from apps.access import services as access
from apps.access.auth import caller_of
from apps.core.api.creation import IDEMPOTENCY_KEY, answer_once
from apps.core.api.parameters import Parameters
from apps.core.api.views import ApiView
from apps.definitions import queries, services
from apps.definitions.api.serializers import (
    DeletedSerializer,
    OpDefinitionCreateSerializer,
    OpDefinitionPageSerializer,
    OpDefinitionSerializer,
)

if TYPE_CHECKING:
    from rest_framework.request import Request

VERSION = OpenApiParameter("version", str, description="One version; without it the latest.")


class DefinitionListView(ApiView):
    scope = {"GET": "read", "POST": "admin"}

    @extend_schema(
        operation_id="list_definitions",
        parameters=[
            OpenApiParameter("id", str, description="Only the versions of this op."),
            OpenApiParameter("latest", bool, description="Only the latest version of each op."),
            OpenApiParameter("limit", int, description="1–100, default 100."),
            OpenApiParameter(
                "starting_after", str, description="`id@version` of the last row seen."
            ),
        ],
        responses=OpDefinitionPageSerializer,
    )
    def get(self, request: Request) -> Response:
        """List every version of every op, newest deployment first."""
        query = Parameters(request.query_params)
        wanted = {
            "name": query.text("id"),
            "latest": query.boolean("latest"),
            "limit": query.integer("limit", default=100, low=1, high=100),
            "starting_after": query.text("starting_after"),
        }
        query.finish()
        rows, has_more = queries.definitions_page(caller=caller_of(request), **wanted)  # type: ignore[arg-type]
        return Response(
            {"data": OpDefinitionSerializer(rows, many=True).data, "has_more": has_more}
        )

    @extend_schema(
        operation_id="deploy_definition",
        parameters=[IDEMPOTENCY_KEY],
        request=OpDefinitionCreateSerializer,
        responses={201: OpDefinitionSerializer, 200: OpDefinitionSerializer},
    )
    def post(self, request: Request) -> Response:
        """Create a version of an op, or replace it; it becomes the latest."""

        def create() -> tuple[int, Any]:
            definition, is_new = services.deploy_definition(
                body=request.data, caller=caller_of(request)
            )
            return 201 if is_new else 200, OpDefinitionSerializer(definition).data

        return answer_once(request, once=access.once, create=create)


class DefinitionDetailView(ApiView):
    scope = {"GET": "read", "DELETE": "delete"}

    @extend_schema(
        operation_id="get_definition", parameters=[VERSION], responses=OpDefinitionSerializer
    )
    def get(self, request: Request, name: str) -> Response:
        """Get one version of an op, the latest by default."""
        definition = queries.get_definition(
            name=name, version=_version(request), caller=caller_of(request)
        )
        return Response(OpDefinitionSerializer(definition).data)

    @extend_schema(
        operation_id="delete_definition",
        parameters=[
            OpenApiParameter("version", str, description="One version; without it all of them.")
        ],
        responses={200: DeletedSerializer},
    )
    def delete(self, request: Request, name: str) -> Response:
        """Delete one version of an op, or all; runs keep their copies."""
        count = services.delete_definitions(
            name=name, version=_version(request), caller=caller_of(request)
        )
        return Response({"deleted": count})


def _version(request: Request) -> str | None:
    query = Parameters(request.query_params)
    version = query.text("version")
    query.finish()
    return version
