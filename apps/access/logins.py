"""Logins to the admin: who failed is written down, and who fails too often has to wait.

The count is over the audit trail: it survives restarts and an empty Redis, and holds over all web processes.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.contrib.auth import get_user_model
from django.utils.crypto import salted_hmac

from apps.access import services
from apps.access.models import AuditEntry
from apps.core import clock
from apps.core.errors import Throttled

if TYPE_CHECKING:
    from django.contrib.auth.models import User

FAILED = "login.fail"
WINDOW = timedelta(minutes=15)
# An address guesses at most 20 passwords in 15 minutes, 5 of them for one account. One account takes 100 guesses from
# everywhere together: more than its owner needs, and at that pace a password of the required strength outlives us all.
# Locking an account sooner would let any stranger lock it.
MOST_FOR_BOTH, MOST_FOR_ADDRESS, MOST_FOR_ACCOUNT = 5, 20, 100


def refuse_guessing(*, account: str, address: str) -> None:
    """Raise Throttled if this address, or everybody for this account, has failed too often of late."""
    failed = AuditEntry.objects.filter(action=FAILED, at__gt=clock.now() - WINDOW)
    by_address = failed.filter(actor=_actor(address))
    for_account = failed.filter(target=_target(account))
    if (
        by_address.filter(target=_target(account)).count() >= MOST_FOR_BOTH
        or by_address.count() >= MOST_FOR_ADDRESS
        or for_account.count() >= MOST_FOR_ACCOUNT
    ):
        seconds = int(WINDOW.total_seconds())
        raise Throttled("Too many failed logins. Try again in 15 minutes.", retry_after=seconds)


def note_failure(*, account: str, address: str) -> None:
    """Write down a failed login. What was typed is told only if it is an account: it may be a password."""
    known = get_user_model().objects.filter(username=account).exists()
    services.audit(
        caller=_actor(address),
        action=FAILED,
        target=_target(account),
        **({"account": account} if known else {}),
    )


def note_success(*, user: User, address: str) -> None:
    """Write down a login."""
    services.audit(
        caller=f"user:{user.pk}", action="login", target=f"user:{user.pk}", address=address
    )


def _actor(address: str) -> str:
    return f"address:{address}"


def _target(account: str) -> str:
    return f"login:{salted_hmac('gyoza.access.login', account).hexdigest()[:16]}"
