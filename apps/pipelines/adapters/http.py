from __future__ import annotations

from typing import ClassVar

from django.conf import settings

from apps.pipelines.adapters.base import Adapter, AdapterFailed, Call, Delegates, optional, required
from apps.pipelines.adapters.outbound import METHODS

LONGEST_SECONDS = 300
# The callable that sends the request, in a child process of the worker.
SENDER = "apps.pipelines.adapters.outbound:perform"


class Http(Adapter):
    """Sends a request to an allow-listed host, as a run: it leaves the process, so it may be tried again."""

    name = "http"
    inputs: ClassVar = {
        "method": required("string", ", ".join(METHODS)),
        "url": required("string", "http or https; the host must be in GYOZA_HTTP_HOSTS."),
        "headers": optional("object"),
        "json": optional("any", description="The body as JSON; or `body`."),
        "body": optional("string"),
        "timeout_s": optional("float", 30, f"For all of it; at most {LONGEST_SECONDS}."),
        "expect": optional("array", description="Statuses that are no failure; 2xx without it."),
    }

    def perform(self, call: Call) -> Delegates:
        """Hand the request to a run."""
        inputs = call.inputs
        if inputs["method"] not in METHODS:
            raise AdapterFailed(
                f"method must be one of {', '.join(METHODS)}, got {inputs['method']!r}"
            )
        if not 0 < inputs["timeout_s"] <= LONGEST_SECONDS:
            raise AdapterFailed(f"timeout_s must be more than 0 and at most {LONGEST_SECONDS}")
        if inputs["json"] is not None and inputs["body"] is not None:
            raise AdapterFailed("json and body can't be given together")
        return Delegates(
            SENDER,
            {
                **inputs,
                "allowed_hosts": settings.GYOZA_HTTP_HOSTS,
                "allows_private": settings.GYOZA_HTTP_ALLOWS_PRIVATE,
            },
            # The run ends it all, should the request not end itself.
            timeout_s=inputs["timeout_s"] + 30,
        )
