"""Request bodies of executions, read with every error at once."""

from __future__ import annotations

from dataclasses import dataclass

from apps.core.body import JSON, Body, is_integer, shown
from apps.pipelines import queries
from apps.pipelines.language import tags


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What POST /pipelines/{id}/run asks for."""

    inputs: dict[str, JSON]
    tag: str | None
    version: int | None
    metadata: dict[str, JSON]


def read_run(value: JSON) -> RunRequest:
    """Read the body of POST /pipelines/{id}/run. Raises Invalid, NoSuchVersion."""
    body = Body({} if value is None else value)
    request = RunRequest(
        inputs=body.mapping("inputs"),
        tag=_tag(body),
        version=_version(body, "version"),
        metadata=body.mapping("metadata"),
    )
    body.refuse_unknown()
    body.finish()
    return request


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """What POST /executions/{id}/replay asks for."""

    from_stage: str
    tag: str | None
    version: int | None


def read_replay(value: JSON) -> ReplayRequest:
    """Read the body of POST /executions/{id}/replay. Raises Invalid, NoSuchVersion."""
    body = Body({} if value is None else value)
    request = ReplayRequest(
        from_stage=body.text("from_stage", default=None),
        tag=_tag(body),
        version=_version(body, "pipeline_version"),
    )
    body.refuse_unknown()
    body.finish()
    return request


@dataclass(frozen=True, slots=True)
class Approval:
    """What POST /executions/{id}/stages/{stage}/approve says."""

    approved: bool
    comment: str


def read_approval(value: JSON) -> Approval:
    """Read the body of an approval. Raises Invalid."""
    body = Body({} if value is None else value)
    if not body.present("approved"):
        body.fail("approved", "is required")
    approval = Approval(
        approved=body.boolean("approved", default=False) if body.present("approved") else False,
        comment=body.text("comment", high=10_000),
    )
    body.refuse_unknown()
    body.finish()
    return approval


def read_message(value: JSON) -> dict[str, JSON]:
    """Read the record of POST /events/{id}/test. Raises Invalid."""
    body = Body({} if value is None else value)
    if not body.present("data"):
        body.fail("data", "is required")
    message = {
        "data": body.raw("data"),
        "tag": body.text("tag") if body.given("tag") else None,
        "node": body.text("node") if body.given("node") else None,
        "meta": body.raw("meta"),
    }
    body.refuse_unknown()
    body.finish()
    return message


def read_seqs(value: JSON) -> list[int] | None:
    """Read the optional body of a redrive; None = all. Raises Invalid."""
    body = Body({} if value is None else value)
    seqs = None
    if body.given("seqs"):
        seqs = body.array("seqs")
        for index, seq in enumerate(seqs):
            if not is_integer(seq) or not 0 < seq < 2**63:
                body.fail(f"seqs.{index}", f"must be a seq, got {shown(seq)}")
    body.refuse_unknown()
    body.finish()
    return seqs


def _version(body: Body, member: str) -> int | None:
    value = body.raw(member)
    if value is not None and (isinstance(value, bool) or not isinstance(value, str | int)):
        body.fail(member, f"must be a version number, got {shown(value)}")
        return None
    return queries.version_number(value)


def _tag(body: Body) -> str | None:
    if not body.given("tag"):
        return None
    tag = body.text("tag")
    if isinstance(body.raw("tag"), str) and not tags.is_tag(tag):
        body.fail("tag", f"{tags.RULE}, got {shown(tag)}")
    return tag
