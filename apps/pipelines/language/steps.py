"""The steps of a document, read with every complaint at once (pipelines-storage.md §3)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apps.core.body import Body, shown
from apps.definitions import services as definitions
from apps.pipelines.execution.graph import find_cycle
from apps.pipelines.language import expressions
from apps.pipelines.language.plans import Step, Work

if TYPE_CHECKING:
    from collections.abc import Mapping

JSON = Any

MOST_STEPS = 1_000
MOST_ITEMS = 1_000
MOST_NAME_BYTES = 255
# Segments between slashes: not empty, not `.` or `..`, no backslash and no control character.
_SEGMENT = re.compile(r"(?!\.{1,2}$)[^/\\\x00-\x1f\x7f]+")
_OP = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,127})(?:@(.{1,64}))?", re.ASCII)
_WORKS = ("op", "adapter", "image", "command", "python")


@dataclass(frozen=True, slots=True)
class World:
    """What a document may name: the input specs of ops by (name, version or None), and those of adapters.

    None = whatever it names; for documents that were checked when they were saved.
    """

    ops: Mapping[tuple[str, str | None], Mapping[str, JSON]] | None = None
    adapters: Mapping[str, Mapping[str, JSON]] | None = None


def split_op(op: str) -> tuple[str, str | None] | None:
    """Return name and version of `name@version`; None if it is neither."""
    found = _OP.fullmatch(op)
    return None if found is None else (found[1], found[2])


def ops_named(value: JSON) -> set[tuple[str, str | None]]:
    """Return the ops a document names, whatever else is wrong with it."""
    steps = value.get("steps") if isinstance(value, dict) else None
    named = (
        [step.get("op") for step in steps if isinstance(step, dict)]
        if isinstance(steps, list)
        else []
    )
    return {found for op in named if isinstance(op, str) and (found := split_op(op))}


def read_steps(body: Body, world: World) -> tuple[Step, ...]:
    """Read `steps`, leaving complaints in the body."""
    raw = body.array("steps")
    if len(raw) > MOST_STEPS:
        body.fail("steps", f"must hold at most {MOST_STEPS} steps, has {len(raw)}")
        return ()
    members = [
        Body(one, path=body.at(f"steps.{index}"), errors=body.errors)
        for index, one in enumerate(raw)
    ]
    names = [_step_name(member, "name", required=True) for member in members]
    for index, name in enumerate(names):
        if name and name in names[:index]:
            members[index].fail(
                "name", f"{shown(name)} is the name of step {names.index(name)}, too"
            )
    read = tuple(
        _read_step(member, name, set(names), world)
        for member, name in zip(members, names, strict=True)
    )
    first: dict[str, tuple[str, ...]] = {}
    for step in read:
        first.setdefault(step.name, step.needs)
    cycle = find_cycle(first)
    if cycle is not None:
        body.fail("steps", f"the steps wait for each other: {' → '.join(cycle)}")
    return read


def _read_step(body: Body, name: str, names: set[str], world: World) -> Step:
    work, specs = _work(body, world)
    has_run = work.adapter is None
    is_own = any(one is not None for one in (work.image, work.command, work.python))
    own = definitions.read_work(body) if is_own else None
    inputs = body.mapping("inputs")
    for_each = _expression(body, "for_each")
    when = _expression(body, "when")
    used = _references(body, inputs, in_loop=for_each is not None)
    for name_of_member, expression in (("when", when), ("for_each", for_each)):
        if expression is not None:
            used |= _reads(body, name_of_member, expression, in_loop=False)
    if specs is not None:
        _check_inputs(body, specs, inputs)
    if not for_each and body.given("max_parallel"):
        body.fail("max_parallel", "is for steps with for_each")
    if not has_run and for_each:
        body.fail("for_each", "is not for adapters: give the step an op")
    step = Step(
        name=name,
        work=work,
        inputs=inputs,
        needs=_needs(body, name, names, used),
        stage=_step_name(body, "stage") or name,
        when=when,
        for_each=for_each,
        max_parallel=body.integer("max_parallel", default=10, low=1, high=MOST_ITEMS),
        priority=(
            body.integer("priority", default=5, low=-1000, high=1000)
            if body.given("priority")
            else None
        ),
        retry_policy=(
            definitions.read_retry_policy(body.child("retry_policy"))
            if body.given("retry_policy")
            else None
        ),
        constraints=(
            definitions.read_constraints(body.child("constraints"))
            if body.given("constraints")
            else None
        ),
        has_timeout=body.present("timeout_s"),
        timeout_s=definitions.read_timeout(body, default=None),
        env=own.env if own else {},
        output_specs=own.output_specs if own else {},
    )
    body.refuse_unknown()
    return step


def _step_name(body: Body, member: str, *, required: bool = False) -> str:
    if not required and not body.given(member):
        return ""
    name = body.text(member, default=None)
    if name and (
        len(name.encode()) > MOST_NAME_BYTES
        or not all(_SEGMENT.fullmatch(segment) for segment in name.split("/"))
    ):
        body.fail(
            member,
            f"must be 1–{MOST_NAME_BYTES} bytes, its segments between slashes neither empty nor '.' nor '..', "
            f"without backslashes and control characters, got {shown(name)}",
        )
        return ""
    if body.raw(member) == "":
        body.fail(member, "must not be empty")
    return name


def _work(body: Body, world: World) -> tuple[Work, Mapping[str, JSON] | None]:
    """Read who does the step; return it with the specs of its inputs if they are known."""
    given = [name for name in _WORKS if body.given(name)]
    if not given:
        body.fail("op", f"one of {', '.join(_WORKS)} is required")
        return Work(), None
    if len(given) > 1 and given != ["image", "command"]:
        body.fail(given[1], f"can't be given beside {given[0]}")
        return Work(), None
    if given == ["op"]:
        return _op(body, world)
    if given == ["adapter"]:
        if world.adapters is None:
            return Work(adapter=body.text("adapter")), None
        adapter = body.choice("adapter", sorted(world.adapters), default="")
        return Work(adapter=adapter), world.adapters.get(adapter)
    return (
        Work(image=body.raw("image"), command=body.raw("command"), python=body.raw("python")),
        None,
    )


def _op(body: Body, world: World) -> tuple[Work, Mapping[str, JSON] | None]:
    text = body.text("op")
    named = split_op(text)
    if named is None:
        body.fail("op", f"must be an op's name or name@version, got {shown(body.raw('op'))}")
        return Work(), None
    if world.ops is not None and named not in world.ops:
        body.fail("op", f"there is no op {text}")
    return Work(op=named[0], op_version=named[1]), (world.ops or {}).get(named)


def _expression(body: Body, member: str) -> str | None:
    if not body.given(member):
        return None
    return body.text(member) or None


def _references(body: Body, inputs: Mapping[str, JSON], *, in_loop: bool) -> set[str]:
    used: set[str] = set()
    for path, expression in expressions.references(inputs, "inputs"):
        if not isinstance(expression, str):
            body.fail(
                path, f'must be {{"$ref": "<JMESPath>"}} and nothing else, got {shown(expression)}'
            )
        else:
            used |= _reads(body, path, expression, in_loop=in_loop)
    return used


def _reads(body: Body, member: str, expression: str, *, in_loop: bool) -> set[str]:
    """Check an expression and return the steps it reads."""
    try:
        found = expressions.reads(expression)
    except ValueError as exc:
        body.fail(member, str(exc))
        return set()
    known = expressions.ROOTS | ({expressions.ITEM} if in_loop else set())
    for root in sorted(found.roots - known):
        body.fail(member, f"{shown(root)} is unknown here; there are {', '.join(sorted(known))}")
    if found.all_steps and not body.given("needs"):
        body.fail(member, "reads all steps: name those it waits for in needs")
    return set(found.steps)


def _needs(body: Body, own: str, names: set[str], used: set[str]) -> tuple[str, ...]:
    declared = body.strings("needs")
    for index, need in enumerate(declared):
        if need not in names:
            body.fail(f"needs.{index}", f"there is no step {shown(need)}")
    for need in sorted(used - names):
        body.fail("inputs", f"reads the step {shown(need)}, and there is none")
    return tuple(dict.fromkeys([*declared, *sorted(used)]))


def _check_inputs(body: Body, specs: Mapping[str, JSON], inputs: Mapping[str, JSON]) -> None:
    """Hold what is literal against the specs; what is a reference is judged when the step starts."""
    literal = {
        name: value for name, value in inputs.items() if not any(expressions.references(value))
    }
    named = {name: spec for name, spec in specs.items() if name in literal or name not in inputs}
    known = {**literal, **dict.fromkeys(inputs.keys() - specs.keys() - literal.keys())}
    _, errors = definitions.fill_inputs(named, known, path=body.at("inputs"))
    body.errors.extend(errors)
    for name, value in literal.items():
        if name in specs and specs[name].get("is_expression") and isinstance(value, str):
            try:
                expressions.compiled(value)
            except ValueError as exc:
                body.fail(f"inputs.{name}", str(exc))
