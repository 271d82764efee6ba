from __future__ import annotations

from typing import ClassVar

from apps.pipelines.adapters.base import Adapter, AdapterFailed, Call, Done, expression, optional
from apps.pipelines.errors import ExpressionFailed
from apps.pipelines.language import expressions


class Transform(Adapter):
    """Evaluates a JMESPath expression over data."""

    name = "transform"
    inputs: ClassVar = {
        "expr": expression("JMESPath."),
        "data": optional("any", description="What it is evaluated on."),
    }

    def perform(self, call: Call) -> Done:
        """Evaluate."""
        try:
            return Done({"result": expressions.evaluate(call.inputs["expr"], call.inputs["data"])})
        except ExpressionFailed as exc:
            raise AdapterFailed(str(exc)) from exc
