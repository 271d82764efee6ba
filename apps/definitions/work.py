"""What there is to do: the members an OpDefinition and an ad-hoc run have in common (runs.md §1). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from apps.core.allowlist import is_allowed, is_callable_name
from apps.core.body import JSON, Body, shown
from apps.definitions.specs import read_input_specs, read_output_specs

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
TOPIC = r"[A-Za-z0-9][A-Za-z0-9._:-]{0,254}"  # topics v0 §5
BACKOFFS = ("exponential", "fixed")
DEFAULT_TIMEOUT_S = 3600
# Far beyond any use, and still a time that a timestamp can hold.
LONGEST_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Work:
    """Validated members, in their stored form."""

    image: str | None
    command: list[str] | None
    python: str | None
    env: dict[str, str]
    input_specs: dict[str, JSON]
    output_specs: dict[str, JSON]
    constraints: dict[str, JSON]
    retry_policy: dict[str, JSON]
    event_delivery: dict[str, JSON]
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A validated OpDefinition, before it is stored."""

    name: str
    version: str
    description: str
    work: Work


def read_definition(value: JSON, *, python_ops: Sequence[str]) -> Blueprint:
    """Read an OpDefinition; raises Invalid with every error at once, each naming its field."""
    body = Body(value)
    blueprint = Blueprint(
        name=body.text(
            "id",
            default=None,
            pattern=NAME,
            rule="must be 1–128 letters, digits, '.', '_' or '-', not beginning with a sign",
        ),
        version=body.text(
            "version", default=None, pattern=r"(?s:.{1,64})", rule="must be 1–64 characters"
        ),
        description=body.text("description"),
        work=read_work(body, python_ops=python_ops),
    )
    body.refuse_unknown()
    body.finish()
    return blueprint


def read_work(body: Body, *, python_ops: Sequence[str]) -> Work:
    """Read what there is to do from a body, leaving complaints in it."""
    image, command, python = _read_program(body, python_ops)
    return Work(
        image=image,
        command=command,
        python=python,
        env=_read_env(body),
        input_specs=read_input_specs(body),
        output_specs=read_output_specs(body),
        constraints=read_constraints(body.child("constraints")),
        retry_policy=read_retry_policy(body.child("retry_policy")),
        event_delivery=read_event_delivery(body, {"topic": "", "attributes": {}}),
        timeout_s=read_timeout(body, default=DEFAULT_TIMEOUT_S),
    )


def read_event_delivery(body: Body, default: dict[str, JSON]) -> dict[str, JSON]:
    """Read `event_delivery`; a member that is not given keeps the default's value."""
    child = body.child("event_delivery")
    topic = child.text(
        "topic",
        default=default["topic"],
        pattern=f"(?!system\\.)({TOPIC})?",
        rule="must be a topic name (1–255 letters, digits, '.', '_', ':' or '-'; not system.…) or empty",
    )
    attributes = (
        child.mapping("attributes") if child.present("attributes") else default["attributes"]
    )
    child.refuse_unknown()
    return {"topic": topic, "attributes": attributes}


def read_timeout(body: Body, *, default: float | None) -> float | None:
    """Read `timeout_s`: seconds, or null for none."""
    if not body.present("timeout_s"):
        return default
    value = body.raw("timeout_s")
    if value is None:
        return None
    seconds = body.number("timeout_s", default=1, low=0, high=LONGEST_S)
    if seconds == 0:
        body.fail("timeout_s", "must be more than 0, or null for none")
    return seconds


def _read_program(
    body: Body, python_ops: Sequence[str]
) -> tuple[str | None, list[str] | None, str | None]:
    image = command = python = None
    if body.given("image"):
        image = body.text(
            "image", pattern=r"\S{1,512}", rule="must be an image name without blanks"
        )
    if body.given("command"):
        command = body.strings("command")
        if isinstance(body.raw("command"), list) and (not command or not command[0]):
            body.fail("command", "must name a program")
    if body.given("python"):
        python = body.text("python")
        _check_python(body, python, python_ops)
    if not any(body.given(name) for name in ("image", "command", "python")):
        body.fail("image", "one of image, command and python is required")
    for other in ("image", "command"):
        if body.given("python") and body.given(other):
            body.fail(other, "can't be given beside python")
    return image, command, python


def _check_python(body: Body, python: str, python_ops: Sequence[str]) -> None:
    if not isinstance(body.raw("python"), str):
        return
    if not is_callable_name(python):
        body.fail("python", f"must be package.module:callable, got {shown(python)}")
    elif not is_allowed(python, python_ops):
        body.fail("python", f"{python} is not on this server's list of allowed Python ops")


def _read_env(body: Body) -> dict[str, str]:
    env = body.mapping("env")
    for name, value in env.items():
        if not name or "=" in name:
            body.fail(f"env.{name}", "is not a variable name: it must not be empty or contain '='")
        if not isinstance(value, str):
            body.fail(f"env.{name}", f"must be a string, got {shown(value)}")
    return env


def read_constraints(body: Body) -> dict[str, JSON]:
    """Read the members of `constraints`."""
    needs = {name: body.integer_or_null(name) for name in ("cpu", "ram_mb", "vram_mb", "gpu_id")}
    tags = body.strings("tags")
    if "" in tags:
        body.fail("tags", "a tag must not be empty")
    body.refuse_unknown()
    return {**needs, "tags": list(dict.fromkeys(tags))}


def read_retry_policy(body: Body) -> dict[str, JSON]:
    """Read the members of `retry_policy`."""
    policy = {
        "max_attempts": body.integer("max_attempts", default=1, low=1, high=100),
        "backoff": body.choice("backoff", BACKOFFS, default="exponential"),
        "delay_s": body.number("delay_s", default=1, low=0, high=LONGEST_S),
        "max_delay_s": body.number("max_delay_s", default=60, low=0, high=LONGEST_S),
        "jitter": body.number("jitter", default=0.1, low=0, high=1),
    }
    body.refuse_unknown()
    return policy
