"""topics v0 §5: names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.topics.conftest import refused

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api


@pytest.mark.parametrize("name", ["-a", ".a", "a b", "ä", "a" * 256, "a%00b", "a%3Eb"])
def test_a_bad_name_is_refused_when_it_would_be_created(api: Api, name: str):
    """§5: create:false → 404 first, then the bad name → 400."""
    refused(api.write(name, 1, create=False), 404, "topic_not_found")
    refused(api.write(name, 1), 400, "invalid_request")


@pytest.mark.parametrize("name", ["a", "A.b_c:d-e", "0" * 255, "parcels%3Anorth"])
def test_names_are_decoded_and_may_be_long(api: Api, name: str):
    assert api.write(name, 1).status_code == 201


@pytest.mark.parametrize(
    "name", ["-a", ".a", "a b", "a%00b", "%C3%BC", "a%3Eb", "%F0%9F%98%80", "a" * 256]
)
def test_a_bad_name_is_refused(api: Api, name: str):
    """§5."""
    refused(api.put(f"/v0/topics/{name}", {}), 400, "invalid_request")


def test_a_slash_that_is_encoded_is_part_of_a_name(api: Api):
    """§2.1: parameters are decoded, not the path before it is taken apart; so this is no request about `a`."""
    api.write("a", 1)
    for name in ("a%2Fdelete", "a%2fdelete", "a%2F%64elete"):
        refused(api.get(f"/v0/topics/{name}"), 404, "topic_not_found")
        refused(api.put(f"/v0/topics/{name}", {}), 400, "invalid_request")
        refused(api.post(f"/v0/topics/{name}", {"before_seq": 9}), 400, "invalid_request")
        refused(api.write(name, 1), 400, "invalid_request")
        assert api.delete(f"/v0/topics/{name}").json()["deleted"] is False
        refused(api.get(f"/v0/routers/{name}"), 404, "router_not_found")
    assert api.state("a")["count"] == 1


def test_the_longest_name_is_fine(api: Api):
    assert api.put(f"/v0/topics/{'a' * 255}", {}).status_code == 201
