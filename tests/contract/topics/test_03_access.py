"""topics v0 §3: keys, scopes and prefixes, as they are met under /v0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from apps.access import keyring
from apps.topics.models import Topic
from tests.cast import make_key
from tests.contract.topics.conftest import RECORDS, refused

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api


def test_without_a_key_nothing_is_told(api: Api):
    """§2.6: authentication comes before routing, body and everything else."""
    make_key()
    for method, path in (
        ("POST", "/v0/topics/t"),
        ("POST", "/v0/topics/t/diff"),
        ("GET", "/v0/nothing"),
        ("PATCH", "/v0/topics/t"),
    ):
        answer = api.call(method, path)
        refused(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
        refused(api.call(method, path, key="wrong"), 401, "unauthorized")
        refused(api.call(method, f"{path}?token=wrong"), 401, "unauthorized")


def test_a_query_token_counts_on_streams_only(api: Api):
    """§3.2."""
    secret = make_key()
    refused(api.post(f"/v0/topics/t/diff?token={secret}", {}), 401, "unauthorized")


ROUTES: list[tuple[str, str, Any, str]] = [
    ("GET", "/v0/topics", None, "read"),
    ("GET", "/v0/topics/team.t", None, "read"),
    ("POST", "/v0/topics/team.t/diff", {}, "read"),
    ("GET", "/v0/routers", None, "read"),
    ("GET", "/v0/routers/team.r", None, "read"),
    ("POST", "/v0/watch", {"topics": {"team.t": {}}}, "read"),
    ("GET", "/v0/metrics", None, "read"),
    ("POST", "/v0/topics/team.t", RECORDS, "write"),
    ("POST", "/v0/topics/team.q/ack", {"node": "n", "seqs": []}, "write"),
    ("POST", "/v0/topics/team.q/nack", {"node": "n", "seqs": []}, "write"),
    ("POST", "/v0/topics/team.q/extend", {"node": "n", "seqs": [], "lease_ms": 1}, "write"),
    ("PATCH", "/v0/topics/team.t", None, "write"),
    ("GET", "/v0/topics/team.t/nothing", None, "write"),
    ("GET", "/v0/topics/team.t/diff", None, "write"),
    ("PUT", "/v0/topics/team.t/delete", None, "write"),
    ("GET", "/v0/topics/team.q/claim", None, "write"),
    ("POST", "/v0/topics/team.q/claim", {"node": "n"}, "read+write"),
    ("DELETE", "/v0/topics/team.gone", None, "delete"),
    ("POST", "/v0/topics/team.t/delete", {"before_seq": 1}, "delete"),
    ("DELETE", "/v0/routers/team.gone", None, "delete"),
    ("PUT", "/v0/topics/team.t", {}, "admin"),
    ("PUT", "/v0/routers/team.r", {"source": "team.t", "dest": "team.d"}, "admin"),
]


@pytest.mark.parametrize(
    ("method", "path", "body", "scope"), ROUTES, ids=[f"{m} {p}" for m, p, _, _ in ROUTES]
)
def test_each_route_needs_its_scope(api: Api, method: str, path: str, body: Any, scope: str):
    """§3.3: none of the others, nor half of two, will do."""
    api.write("team.t", 1)
    api.put("/v0/topics/team.q", {"type": "queue"})
    every = {"read", "write", "delete", "admin"}
    for number, needed in enumerate(scope.split("+")):
        others = "+".join(every - {needed})
        key = make_key(f"no {number}", others)
        refused(api.call(method, path, body, key=key), 403, "forbidden")
    answer = api.call(method, path, body, key=make_key("yes", scope))
    assert answer.status_code not in {401, 403}, answer.text


def test_a_stream_of_jobs_needs_both(api: Api):
    """§3.3."""
    api.put("/v0/topics/q", {"type": "queue"})
    path = "/v0/topics/q/work?node=n"
    refused(api.get(path, key=make_key("r", "read")), 403, "forbidden")
    refused(api.get(path, key=make_key("w", "write")), 403, "forbidden")
    # §3.2: there the query may carry the key.
    refused(
        api.get(f"/v0/topics/q/work?token={make_key('rw', 'read+write')}"), 400, "invalid_request"
    )


@pytest.mark.parametrize(
    ("method", "path", "body", "scope"),
    [route for route in ROUTES if "team." in route[1]],
    ids=[f"{m} {p}" for m, p, _, _ in ROUTES if "team." in p],
)
def test_each_path_is_within_the_prefixes(api: Api, method: str, path: str, body: Any, scope: str):
    """§3.4; a router that is absent behaves normally."""
    api.write("team.t", 1)
    api.put("/v0/topics/team.q", {"type": "queue"})
    api.put("/v0/routers/team.r", {"source": "team.t", "dest": "team.d"})
    stranger = make_key("stranger", scope, "other.", "team:", "Team.")
    refused(api.call(method, path, body, key=stranger), 403, "forbidden")
    teammate = make_key("teammate", scope, "other.", "team.")
    answer = api.call(method, path, body, key=teammate)
    assert answer.status_code not in {401, 403}, answer.text


@pytest.mark.parametrize("path", ["/v0", "/v0/nothing", "/v0/topics/", "/v0/ws/"])
def test_where_nothing_is_any_key_may_hear_so(api: Api, path: str):
    refused(api.get(path, key=make_key("d", "delete", "a.")), 404, "not_found")


def test_without_any_key_everything_is_open_and_a_header_is_not_looked_at(api: Api):
    """§3.1: dev mode."""
    assert api.put("/v0/topics/t", {}, key="whatever").status_code == 201
    assert api.get("/v0/topics?token=x", Authorization="Basic x").status_code == 200


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ("Bearer {}", 200),
        ("Bearer  {} ", 200),
        ("bearer {}", 401),
        ("BEARER {}", 401),
        ("Bearer{}", 401),
        ("Basic {}", 401),
        ("Bearer ", 401),
        ("{}", 401),
    ],
)
def test_the_scheme_is_matched_exactly_and_the_rest_trimmed(api: Api, given: str, status: int):
    """§3.2."""
    secret = make_key()
    answer = api.get("/v0/topics", Authorization=given.format(secret))
    assert answer.status_code == status


def test_keys_given_at_start(api: Api):
    """§3.1."""
    keyring.use_environment_keys(
        "all-of-it-all-of-it, look-only-look-only:r:team.|other: , ,::x,admin-everywhere::team."
    )
    assert api.put("/v0/topics/x", {}, key="all-of-it-all-of-it").status_code == 201
    assert api.get("/v0/topics/team.t", key="look-only-look-only").status_code == 404
    assert api.get("/v0/topics/other:t", key="look-only-look-only").status_code == 404
    refused(api.get("/v0/topics/x", key="look-only-look-only"), 403, "forbidden")
    refused(api.put("/v0/topics/team.t", {}, key="look-only-look-only"), 403, "forbidden")
    assert api.put("/v0/topics/team.t", {}, key="admin-everywhere").status_code == 201
    refused(api.put("/v0/topics/t", {}, key="admin-everywhere"), 403, "forbidden")


@pytest.mark.parametrize(
    "entry", ["secret:reed", "secret:+", "secret:+:", "secret:read+,:", "secret: + :a"]
)
def test_a_bad_scope_stops_the_start(entry: str):
    """§3.1, ⚑8."""
    if entry == "secret:read+,:":
        keyring.use_environment_keys(
            entry
        )  # a separator beside a word, and an entry without a secret
        return
    with pytest.raises(ImproperlyConfigured) as caught:
        keyring.use_environment_keys(entry)
    assert "secret" not in str(caught.value)


def test_a_name_outside_the_prefixes_is_forbidden(api: Api):
    """§3.4, ⚑9: decoded first, compared byte for byte, before anything is looked up."""
    key = make_key("someone", "read+write", "tenant:", "team.")
    assert api.post("/v0/topics/tenant%3Ax", RECORDS, key=key).status_code == 201
    assert api.post("/v0/topics/tenant:x/diff", {}, key=key).status_code == 200
    refused(api.post("/v0/topics/Tenant:x", RECORDS, key=key), 403, "forbidden")
    refused(api.post("/v0/topics/absent/diff", {}, key=key), 403, "forbidden")
    refused(api.post("/v0/topics/absent/diff", b"{", key=key), 403, "forbidden")


def test_a_config_needs_admin_while_the_topic_is_missing(api: Api):
    """§3.3."""
    writer = make_key("writer", "write")
    body = {**RECORDS, "config": {"ttl_ms": 1}}
    assert refused(api.post("/v0/topics/t", body, key=writer), 403, "forbidden") == {"topic": "t"}
    # §12: before the records are judged.
    refused(api.post("/v0/topics/t", {**body, "records": []}, key=writer), 403, "forbidden")
    admin = make_key("admin", "write+admin")
    assert api.post("/v0/topics/t", body, key=admin).status_code == 201
    assert api.post("/v0/topics/t", body, key=writer).status_code == 200


def test_a_config_of_who_may_not_choose_is_dropped(api: Api, monkeypatch: pytest.MonkeyPatch):
    """§3.3: also if the topic is deleted between the look and the write."""
    from apps.topics import descriptions

    async def there(_: str) -> bool:
        return True

    monkeypatch.setattr(descriptions, "exists", there)
    writer = make_key("writer", "write")
    body = {**RECORDS, "config": {"ttl_ms": 1}}
    assert api.post("/v0/topics/t", body, key=writer).status_code == 201
    assert Topic.objects.get().ttl_ms == 0
