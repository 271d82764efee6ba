from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from django.conf import settings
from django.test import Client

from apps.access import auth, keyring, services
from apps.core import lifespan
from apps.core.errors import Unauthorized
from apps.core.sse import connections, hub, vouching
from apps.core.sse.subscription import Subscription
from apps.core.threads import in_thread
from apps.runs import transitions
from tests import aio
from tests.asgi_client import opened
from tests.cast import make_key
from tests.factories import make_run

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from apps.access.caller import Caller
    from apps.runs.models import Run

pytestmark = pytest.mark.django_db(transaction=True)


async def hearing() -> None:
    """Return once this process hears what others announce."""
    ours = hub.current()
    with Subscription(ours, ["any"]) as news:
        while not ours.hears:
            await news.wait(10)


def test_async_views_know_the_caller():
    secret = make_key("ci", "read", "team.")
    caller = asyncio.run(_identify(secret))
    assert (caller.name, caller.prefixes) == ("ci", ("team.",))
    assert caller.scopes == {"read"}


async def _identify(secret: str) -> Caller:
    caller = await auth.identify({"Authorization": f"Bearer {secret}"})
    await hearing()
    await hub.current().close()
    return caller


def test_another_process_revoking_is_heard_at_once(redis, settings):
    settings.GYOZA_KEY_CACHE_SECONDS = 3600
    secret = make_key("ci")
    key = {"X-API-Key": secret}

    async def story() -> None:
        assert (await auth.identify(key)).name == "ci"
        await hearing()
        assert (await auth.identify(key)).name == "ci"
        forgotten = asyncio.Event()
        loop = asyncio.get_running_loop()
        drop = keyring.drop

        def drop_and_tell() -> None:
            drop()
            loop.call_soon_threadsafe(forgotten.set)

        keyring.drop = drop_and_tell
        try:
            # What another process does: it changes the row, and tells by Redis alone.
            await asyncio.to_thread(_revoke_elsewhere, redis)
            async with asyncio.timeout(10):
                await forgotten.wait()
        finally:
            keyring.drop = drop
        with pytest.raises(Unauthorized):
            await auth.identify(key)
        await hub.current().close()

    asyncio.run(story())


def test_a_stream_ends_with_its_key(redis):
    mine, other = make_key("mine", "read"), make_key("other", "read")
    run = make_run()

    async def story() -> None:
        path = f"/runs/{run.id}/stream"
        async with opened(path, key=mine) as ours, opened(path, key=other) as theirs:
            await ours.next_frame()
            await theirs.next_frame()
            await hearing()
            await in_thread(services.revoke_key, key="mine", caller="test")
            assert await ours.frames() == []
            await in_thread(services.create_key, name="more", scopes=["read"], caller="test")
            await in_thread(_cancel, run)
            assert [frame.data["type"] for frame in await theirs.frames()] == ["CANCELLED"]
        assert not connections.any_ends_with_a_key()
        await hub.current().close()

    aio.run(story())


def test_the_first_key_ends_what_was_opened_without_one(redis):
    run = make_run()

    async def story() -> None:
        async with opened(f"/runs/{run.id}/stream") as anonymous:
            await anonymous.next_frame()
            await hearing()
            await in_thread(services.create_key, name="first", scopes=["read"], caller="test")
            assert await anonymous.frames() == []
        await hub.current().close()

    aio.run(story())


def session_of(user: User) -> tuple[Client, str]:
    """Log somebody in; return his browser, and the cookie as it sends it."""
    browser = Client()
    browser.force_login(user)
    name = settings.SESSION_COOKIE_NAME
    return browser, f"{name}={browser.cookies[name].value}"


def test_a_stream_of_the_staff_outlives_keys(redis, admin_user, monkeypatch):
    monkeypatch.setattr(vouching, "LOOK_SECONDS", 0)
    make_key("mine", "read")
    run = make_run()
    _, cookie = session_of(admin_user)

    async def story() -> None:
        async with opened(f"/runs/{run.id}/stream", cookie=cookie) as ours:
            await ours.next_frame()
            await hearing()
            await in_thread(services.create_key, name="more", scopes=["read"], caller="test")
            await in_thread(services.revoke_key, key="mine", caller="test")
            await in_thread(keyring.load)
            await in_thread(_cancel, run)
            assert [frame.data["type"] for frame in await ours.frames()] == ["CANCELLED"]
        await hub.current().close()

    aio.run(story())


@pytest.mark.parametrize("how", ["logged out", "left the staff"])
def test_a_stream_of_the_staff_ends_with_its_session(redis, admin_user, monkeypatch, how):
    monkeypatch.setattr(vouching, "LOOK_SECONDS", 0)
    make_key("mine", "read")
    run = make_run()
    browser, cookie = session_of(admin_user)

    def leave() -> None:
        if how == "logged out":
            browser.logout()
        else:
            admin_user.is_staff = False
            admin_user.save()

    async def story() -> None:
        async with opened(f"/runs/{run.id}/stream", cookie=cookie) as ours:
            await ours.next_frame()
            await in_thread(leave)
            assert await ours.frames() == []
        await hub.current().close()

    aio.run(story())


def _cancel(run: Run) -> None:
    with transitions.batch() as moves:
        transitions.cancel(moves, transitions.get_live(moves, run.id), reason="enough")


def _revoke_elsewhere(redis):
    from django.db import connection

    from apps.access.models import ApiKey
    from apps.core import clock

    ApiKey.objects.update(revoked_at=clock.now())
    connection.close()
    redis.publish(hub.REDIS_CHANNEL, f"someone else\n{keyring.CHANNEL}")


def test_this_process_revoking_takes_effect_with_the_commit():
    secret = make_key("ci")
    make_key("other")
    assert auth.identify_now({"X-API-Key": secret}).name == "ci"
    services.revoke_key(key="ci", caller="test")
    with pytest.raises(Unauthorized):
        auth.identify_now({"X-API-Key": secret})


def test_a_process_listens_from_its_start_on(redis):
    async def story() -> bool:
        lifespan.reopen()
        ours = hub.current()
        listens = ours in keyring._listening
        await ours.close()
        return listens

    assert asyncio.run(story())
