from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.response import Response

from apps.access.auth import caller_of
from apps.core.api.parameters import Parameters
from apps.core.api.views import ApiView
from apps.storage import listing, queries, wire
from apps.storage.api import requests
from apps.storage.api.serializers import ObjectPageSerializer, StoredObjectSerializer
from apps.storage.listing import Wanted

if TYPE_CHECKING:
    from rest_framework.request import Request

# Postgres counts an offset entry by entry.
MOST_OFFSET = 1_000_000
MOST_EXTENSIONS = 50


class ObjectListView(ApiView):
    scope = "read"
    # An op lists what belongs to its own execution: `queries.spaces_visible_to`.
    run_token = True

    @extend_schema(
        operation_id="list_objects",
        parameters=[
            OpenApiParameter(
                "execution_id",
                str,
                description="Id or tag; needed unless the prefix begins with an id.",
            ),
            OpenApiParameter(
                "stage", str, description="Stages whose name with a slash behind it begins so."
            ),
            OpenApiParameter(
                "prefix", str, description="How keys begin, with or without the execution."
            ),
            OpenApiParameter(
                "delimiter",
                str,
                enum=["/"],
                description="List one level: what lies deeper is told by its common prefixes, which come first.",
            ),
            OpenApiParameter(
                "extension", str, description="A comma list; the dot may be left out, any case."
            ),
            OpenApiParameter("include_metadata", bool, description="With your own metadata."),
            OpenApiParameter("limit", int, description="1–1000, default 100."),
            OpenApiParameter("offset", int, description=f"0–{MOST_OFFSET}."),
        ],
        responses=ObjectPageSerializer,
    )
    def get(self, request: Request) -> Response:
        """List objects of an execution, by key."""
        query = Parameters(request.query_params)
        execution, wanted = _wanted(query)
        with_metadata = query.boolean("include_metadata")
        query.finish()
        space = queries.get_space(named=execution, caller=caller_of(request))
        page = listing.page(space, wanted)
        seen = wanted.offset + len(page.objects) + len(page.common_prefixes)
        return Response(
            {
                "objects": [
                    wire.object_body(one, with_metadata=with_metadata) for one in page.objects
                ],
                "common_prefixes": [f"{space.pk}/{prefix}" for prefix in page.common_prefixes],
                "total": page.total,
                "limit": wanted.limit,
                "offset": wanted.offset,
                "has_more": seen < page.total,
            }
        )


class ObjectMetadataView(ApiView):
    scope = {"GET": "read", "PUT": "write", "DELETE": "delete"}
    run_token = True

    @extend_schema(operation_id="read_object_metadata", responses=StoredObjectSerializer)
    def get(self, request: Request, key: str) -> Response:
        """Get what is known of an object."""
        wanted = requests.key_of(request._request, below=b"/metadata")
        found = queries.get_object(key=wanted, caller=caller_of(request))
        return Response(wire.object_body(found), headers={"ETag": f'"{found.etag}"'})

    @extend_schema(exclude=True)
    def put(self, request: Request, key: str) -> Response:
        return self._refuse(request)

    @extend_schema(exclude=True)
    def delete(self, request: Request, key: str) -> Response:
        return self._refuse(request)

    def _refuse(self, request: Request) -> Response:
        # As a key it ends in what is reserved, and that is what is said.
        requests.key_of(request._request)
        raise AssertionError("a reserved key was read")


def _wanted(query: Parameters) -> tuple[str, Wanted]:
    execution, prefix = query.text("execution_id"), query.text("prefix") or ""
    head, slash, rest = prefix.partition("/")
    if slash and (head == execution or (execution is None and _is_uuid(head))):
        execution, prefix = head, rest
    if not execution:
        query.fail("execution_id", "is required unless prefix begins with the id of an execution")
    delimiter = query.text("delimiter")
    if delimiter not in {None, "", "/"}:
        query.fail("delimiter", f'must be "/", got {delimiter!r}')
    extension = query.text("extension")
    extensions = None if extension is None else _extensions(extension)
    if extensions is not None and len(extensions) > MOST_EXTENSIONS:
        query.fail("extension", f"must name at most {MOST_EXTENSIONS}")
    return execution or "", Wanted(
        prefix=prefix,
        stage=query.text("stage") or None,
        extensions=extensions,
        by_folder=delimiter == "/",
        limit=query.integer("limit", default=100, low=1, high=1000),
        offset=query.integer("offset", default=0, low=0, high=MOST_OFFSET),
    )


def _extensions(given: str) -> list[str]:
    named = [one.strip().lower() for one in given.split(",") if one.strip()]
    return [one if one.startswith(".") else f".{one}" for one in named]


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
