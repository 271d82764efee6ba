"""What every control-plane path answers before its own rules: keys, scopes, bodies, errors (runs.md §2; pipelines-storage.md, intro)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from apps.access import services
from apps.core.api.parsers import MAX_BODY_BYTES
from tests.cast import client_for

if TYPE_CHECKING:
    from rest_framework.test import APIClient

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.contract.door_urls")]


def refused(response: Any, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/json"
    body = response.json()
    assert set(body) == {"error"}
    assert body["error"]["code"] == code
    assert body["error"]["message"]
    assert set(body["error"]) == {"code", "message", "detail"}
    if code == "invalid_request":
        assert body["error"]["detail"]["errors"]
    return dict(body["error"])


def post(
    client: APIClient,
    body: Any,
    content_type: str = "application/json",
    path: str = "/door/echo",
    **extra: Any,
) -> Any:
    return client.generic("POST", path, body, content_type=content_type, **extra)


class TestKeys:
    def test_a_key_opens_what_its_scopes_allow(self, reader):
        assert client_for(reader).get("/door/echo").json() == {"caller": "reader", "name": ""}
        refused(client_for(reader).post("/door/echo", {}), 403, "forbidden")

    def test_a_key_is_taken_from_either_header(self, reader):
        response = client_for().get("/door/echo", HTTP_X_API_KEY=reader)
        assert response.json()["caller"] == "reader"

    @pytest.mark.parametrize("headers", [{}, {"HTTP_AUTHORIZATION": "Bearer nonsense"}])
    def test_without_a_good_key_it_is_401(self, owner, headers):
        response = client_for().get("/door/echo", **headers)
        refused(response, 401, "unauthorized")
        assert response["WWW-Authenticate"] == "Bearer"

    def test_a_token_in_the_query_does_nothing(self, owner):
        refused(client_for().get(f"/door/echo?token={owner}"), 401, "unauthorized")

    def test_any_key_serves_where_no_scope_is_asked(self, key_maker):
        assert client_for(key_maker("d", "delete")).get("/door/any").status_code == 200

    def test_a_public_path_does_not_look_at_keys(self, owner):
        response = client_for("nonsense").get("/door/public")
        assert response.json() == {"status": "ok"}

    def test_a_view_that_declares_nothing_is_closed(self, admin_key):
        refused(client_for(admin_key).get("/door/forgetful"), 403, "forbidden")

    def test_a_run_token_opens_only_what_admits_it(self, owner):
        run_id = uuid4()
        client = client_for(services.issue_run_token(run_id, 2))
        assert client.post("/door/own", {}).json() == {"run": str(run_id), "attempt": 2}
        refused(client.get("/door/echo"), 403, "forbidden")
        refused(client.get("/door/any"), 403, "forbidden")

    def test_without_any_key_everything_is_open(self):
        assert client_for().post("/door/echo", {"a": 1}).json() == {
            "caller": "anonymous",
            "body": {"a": 1},
        }

    def test_without_any_key_another_site_is_refused(self):
        response = client_for().post("/door/echo", {}, HTTP_ORIGIN="https://evil.example")
        refused(response, 403, "forbidden")

    def test_a_good_key_comes_before_a_wrong_method(self, owner, reader):
        refused(client_for().delete("/door/echo"), 401, "unauthorized")
        response = client_for(reader).delete("/door/echo")
        refused(response, 405, "method_not_allowed")


class TestStaffSession:
    @pytest.fixture
    def browser(self, owner, django_user_model):
        user = django_user_model.objects.create_superuser("ana", password="pw")
        client = client_for(enforce_csrf_checks=True)
        client.force_login(user)
        return client

    def test_a_superuser_may_look(self, browser):
        assert browser.get("/door/echo").json()["caller"] == "ana"

    def test_what_changes_something_needs_the_csrf_token(self, browser):
        refused(browser.post("/door/echo", {}), 403, "forbidden")
        page = browser.get("/door/echo", HTTP_ACCEPT="text/html")
        assert page.status_code == 200
        token = browser.cookies["csrftoken"].value
        response = browser.post("/door/echo", {"a": 1}, HTTP_X_CSRFTOKEN=token)
        assert response.json() == {"caller": "ana", "body": {"a": 1}}

    def test_other_staff_only_looks(self, owner, django_user_model):
        client = client_for()
        client.force_login(django_user_model.objects.create_user("bo", is_staff=True))
        assert client.get("/door/echo").status_code == 200
        refused(client.post("/door/echo", {}), 403, "forbidden")

    def test_a_login_without_staff_is_nobody(self, owner, django_user_model):
        client = client_for()
        client.force_login(django_user_model.objects.create_user("cy"))
        refused(client.get("/door/echo"), 401, "unauthorized")

    def test_a_key_counts_more_than_the_session(self, browser, reader):
        browser.credentials(HTTP_AUTHORIZATION=f"Bearer {reader}")
        assert browser.get("/door/echo").json()["caller"] == "reader"
        browser.credentials(HTTP_AUTHORIZATION="Bearer nonsense")
        refused(browser.get("/door/echo"), 401, "unauthorized")


class TestBrowsablePages:
    def test_a_browser_gets_a_page_in_dev_mode(self):
        page = client_for().get("/door/echo", HTTP_ACCEPT="text/html,*/*;q=0.8")
        assert page.status_code == 200
        assert page["Content-Type"].startswith("text/html")
        assert "&quot;anonymous&quot;" in page.content.decode()

    def test_a_browser_without_a_key_gets_a_page_that_says_so(self, owner):
        page = client_for().get("/door/echo", HTTP_ACCEPT="text/html")
        assert page.status_code == 401
        assert "unauthorized" in page.content.decode()

    def test_curl_gets_json(self):
        assert (
            client_for().get("/door/echo", HTTP_ACCEPT="*/*")["Content-Type"] == "application/json"
        )

    def test_a_format_nobody_writes_is_406(self):
        refused(client_for().get("/door/echo", HTTP_ACCEPT="image/png"), 406, "not_acceptable")
        error = refused(client_for().get("/door/echo?format=zip"), 406, "not_acceptable")
        assert error["message"] == 'the format must be one of json, api, got "zip"'
        assert client_for().get("/door/echo?format=json").status_code == 200


class TestBodies:
    def test_numbers_keep_their_shape(self):
        body = b'{"z":18446744073709551615,"a":1.5,"m":[],"u":"\xc3\xa9"}'
        assert json.loads(post(client_for(), body).content)["body"] == json.loads(body)
        assert body in post(client_for(), body).content

    def test_no_body_is_an_empty_object(self):
        assert client_for().generic("POST", "/door/echo").json()["body"] == {}

    @pytest.mark.parametrize(
        "content_type",
        ["text/plain", "application/x-www-form-urlencoded", "", "application/json; charset=utf-16"],
    )
    def test_another_content_type_is_415(self, content_type):
        refused(post(client_for(), b"{}", content_type), 415, "unsupported_media_type")

    @pytest.mark.parametrize(
        "content_type", ["application/json; charset=UTF-8", "Application/JSON"]
    )
    def test_the_content_type_may_be_spelt_otherwise(self, content_type):
        assert post(client_for(), b"{}", content_type).status_code == 201

    @pytest.mark.parametrize(
        "body", [b"{", b"[1]", b'"x"', b'{"a":1,"a":2}', b'{"a":"\\u0000"}', b'{"a":NaN}']
    )
    def test_bad_json_is_400(self, body):
        refused(post(client_for(), body), 400, "invalid_request")

    def test_a_mebibyte_is_the_limit(self):
        def of_size(size: int) -> bytes:
            return b'{"a":"' + b"x" * (size - 8) + b'"}'

        assert post(client_for(), of_size(MAX_BODY_BYTES)).status_code == 201
        response = post(client_for(), of_size(MAX_BODY_BYTES + 1))
        refused(response, 413, "payload_too_large")

    def test_nul_in_a_path_is_no_such_thing(self):
        refused(client_for().get("/door/echo/a%00b"), 404, "not_found")

    def test_nul_in_a_parameter_is_400(self):
        refused(client_for().get("/door/echo?id=a%00b"), 400, "invalid_request")


class TestErrors:
    def test_an_unknown_path_is_404_in_json(self, client):
        refused(client.get("/nowhere"), 404, "not_found")

    def test_an_unknown_path_under_v1_speaks_v1(self, client):
        response = client.get("/api/v1/nowhere", headers={"X-Correlation-ID": "abc"})
        assert response.status_code == 404
        body = response.json()
        assert list(body) == ["detail", "error_code", "correlation_id", "timestamp"]
        assert (body["error_code"], body["correlation_id"]) == ("not_found", "abc")

    def test_a_page_for_people_is_html(self, client):
        assert client.get("/console/nowhere")["Content-Type"].startswith("text/html")

    def test_a_bug_tells_nothing(self):
        for path in ("/door/broken/bug", "/api/v1/door/broken/bug"):
            response = client_for().get(path)
            assert response.status_code == 500
            assert "secret" not in response.content.decode()
        refused(client_for().get("/door/broken/bug"), 500, "internal")

    def test_the_database_being_away_is_503(self):
        response = client_for().get("/door/broken/database")
        error = refused(response, 503, "unavailable")
        assert response["Retry-After"] == "1"
        assert "secret" not in error["message"]

    def test_the_database_being_away_is_503_outside_of_drf_too(self):
        refused(client_for().get("/door/broken-outside-of-drf"), 503, "unavailable")
        page = client_for().get("/console/broken")
        assert (page.status_code, page["Retry-After"]) == (503, "1")
        assert page["Content-Type"].startswith("text/html")
        assert "secret" not in page.content.decode()

    def test_throttling_says_how_long_to_wait(self):
        response = client_for().get("/api/v1/door/broken/busy")
        assert (response.status_code, response["Retry-After"]) == (429, "3")
        assert response.json()["error_code"] == "throttled"

    def test_a_bad_body_under_v1_is_422(self):
        response = post(client_for(), b"{", path="/api/v1/door/echo")
        assert response.status_code == 422
        (complaint,) = response.json()["detail"]
        assert set(complaint) == {"loc", "msg", "type"}
        assert complaint["loc"] == ["body"]

    def test_every_answer_carries_a_correlation_id(self, client):
        assert client.get("/nowhere", headers={"X-Request-ID": "abc"})["X-Correlation-ID"] == "abc"
        assert len(client.get("/nowhere")["X-Correlation-ID"]) == 32
