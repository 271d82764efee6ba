from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from rest_framework.views import APIView

from apps.core.api.scope import PUBLIC
from apps.core.errors import Invalid, NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rest_framework.authentication import BaseAuthentication
    from rest_framework.request import Request


class ApiView(APIView):
    """The base of every control-plane view: `scope` says which key may call it, per method if need be."""

    scope: ClassVar[str | Mapping[str, str]]
    # Whether an op may call it with the token of its run; the view then checks `request.auth.run_id`.
    run_token: ClassVar[bool] = False

    def get_authenticators(self) -> list[BaseAuthentication]:
        return [] if getattr(self, "scope", None) == PUBLIC else super().get_authenticators()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        # Postgres has no NUL in text: said here once, instead of as a driver error wherever a name is looked up.
        if "\x00" in request.path:
            raise NotFound
        if any("\x00" in value for _, values in request.query_params.lists() for value in values):
            raise Invalid("a parameter contains NUL (U+0000)", where="query")
