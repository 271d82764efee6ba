"""What a browser may load, run and send for a page of ours, and do with content that is not ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.utils.deprecation import MiddlewareMixin

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponseBase

HEADER = "Content-Security-Policy"

# No page carries a script in itself, so no nonce is needed. Styles do stand in pages: the theme's colours, attributes.
_DIRECTIVES = (
    "default-src 'self'",
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data:",
    "object-src 'none'",
    "base-uri 'self'",
    "form-action 'self'",
    "frame-ancestors 'none'",
)
POLICY = "; ".join(_DIRECTIVES)
EVALUATING_POLICY = "; ".join((*_DIRECTIVES, "script-src 'self' 'unsafe-eval'"))

# Of content that somebody else wrote: it is what it is said to be, runs nothing, and no page of another site embeds it.
OF_FOREIGN_CONTENT = {
    HEADER: "default-src 'none'; sandbox; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class ContentPolicyMiddleware(MiddlewareMixin):
    """Gives HTML its policy; a view that has set a stricter one keeps it."""

    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        if response.get("Content-Type", "").startswith("text/html"):
            evaluates = request.path.startswith(settings.GYOZA_EVALUATING_PAGES)
            response.headers.setdefault(HEADER, EVALUATING_POLICY if evaluates else POLICY)
        return response
