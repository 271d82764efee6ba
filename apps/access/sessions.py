"""Sessions of the admin (SESSION_ENGINE), and who is logged in, told by a browser's cookies where Django's middleware isn't."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.sessions.backends.db import SessionStore as DatabaseSessions
from django.http import HttpRequest, parse_cookie

if TYPE_CHECKING:
    from django.contrib.auth.models import User


class SessionStore(DatabaseSessions):
    """Django's sessions, which a cookie with NUL (in quotes it may be spelt) names none of: Postgres takes no such text."""

    def __init__(self, session_key: str | None = None) -> None:
        super().__init__(None if "\0" in (session_key or "") else session_key)


def find_staff(cookies: str) -> User | None:
    """Return the member of the staff whose session a `Cookie` header names; None if there is none."""
    key = parse_cookie(cookies).get(settings.SESSION_COOKIE_NAME)
    if not key:
        return None
    request = HttpRequest()
    request.session = SessionStore(key)
    user = get_user(request)
    return user if user.is_active and getattr(user, "is_staff", False) else None
