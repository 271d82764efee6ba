"""Who is logged in to the admin, told by a browser's cookies: for doors without Django's middleware."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib.auth import get_user
from django.http import HttpRequest, parse_cookie

if TYPE_CHECKING:
    from django.contrib.auth.models import User


def find_staff(cookies: str) -> User | None:
    """Return the member of the staff whose session a `Cookie` header names; None if there is none."""
    key = parse_cookie(cookies).get(settings.SESSION_COOKIE_NAME)
    if not key:
        return None
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(key)
    user = get_user(request)
    return user if user.is_active and getattr(user, "is_staff", False) else None
