"""What pipelines, executions and triggers refuse, by their codes."""

from __future__ import annotations

from apps.core.errors import Conflict, GyozaError, Invalid, NotFound


class NoSuchVersion(NotFound):
    """The pipeline has no such version."""

    code = "version_not_found"


class ExpressionFailed(Invalid):
    """An expression could not be evaluated."""

    code = "expression_failed"


class PipelineExists(Conflict):
    """A pipeline has this id."""

    code = "pipeline_exists"


class PipelineInUse(Conflict):
    """The pipeline has running executions or a started trigger."""

    code = "pipeline_in_use"


class TagTaken(Conflict):
    """An execution has this tag, and tags are unique for ever."""

    code = "tag_taken"


class NoEventOption(GyozaError):
    """The pipeline names no topic in options.event; answered with 500, as documented."""

    code = "NO_EVENT_OPTION"


class TriggerNotStarted(Conflict):
    """The pipeline's trigger is not started."""

    code = "trigger_not_started"


class NoSchedule(NotFound):
    """The pipeline has no options.schedule."""

    code = "no_schedule"
