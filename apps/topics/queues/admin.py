from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.template.loader import render_to_string
from unfold.admin import ModelAdmin

from apps.access.auth import caller_of_user
from apps.core import clock
from apps.core.errors import GyozaError
from apps.topics.models import QueueTopic
from apps.topics.queues import queries, services
from apps.topics.queues.errors import NoDeadLetters
from apps.topics.states import TopicKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.contrib.admin.views.main import ChangeList
    from django.db.models import QuerySet
    from django.http import HttpRequest

    from apps.access.auth import Caller
    from apps.topics.queues.queries import QueueCounters

# What a page shows of a queue's jobs, and of its dead letters.
FIRST_JOBS = 20


@admin.register(QueueTopic)
class QueueAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = ("name", "ready", "in_flight", "delayed", "dead_lettered", "oldest", "paused")
    search_fields = ("name__startswith",)
    search_help_text = "The beginning of a name."
    ordering = ("name",)
    show_full_result_count = False
    actions = ("pause", "resume", "release", "redrive")
    readonly_fields = (
        *("ready", "in_flight", "delayed", "dead_lettered", "oldest", "paused"),
        *("first_jobs", "dead_letters"),
    )
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("name", "paused"),
                    ("ready", "in_flight"),
                    ("delayed", "oldest"),
                    ("dead_lettered", "dead_letter"),
                    ("lease_ms", "max_deliveries"),
                    ("claim_jitter_ms", "leases_durable"),
                )
            },
        ),
        ("Oldest jobs", {"fields": ("first_jobs",)}),
        ("Dead letters", {"fields": ("dead_letters",)}),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _caller(request).may("read")

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return _caller(request).may("write")

    def get_queryset(self, request: HttpRequest) -> QuerySet[QueueTopic]:
        found: QuerySet[QueueTopic] = super().get_queryset(request).filter(kind=TopicKind.QUEUE)
        return found

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        """Read the counters of all rows of a page at once."""
        listed: ChangeList = super().get_changelist_instance(request)
        rows = list(listed.result_list)
        counters = queries.queue_counters_now({row.pk: row.count for row in rows})
        for row in rows:
            row.__dict__["_counters"] = counters[row.pk]
        listed.result_list = rows
        return listed

    @admin.display
    def ready(self, queue: QueueTopic) -> int:
        return _counters(queue).ready

    @admin.display
    def in_flight(self, queue: QueueTopic) -> int:
        return _counters(queue).in_flight

    @admin.display
    def delayed(self, queue: QueueTopic) -> int:
        return _counters(queue).delayed

    @admin.display(description="dead-lettered")
    def dead_lettered(self, queue: QueueTopic) -> int:
        return _counters(queue).dead_lettered

    @admin.display(description="oldest job")
    def oldest(self, queue: QueueTopic) -> str | None:
        ts = queue.earliest_ts
        return None if ts is None else clock.rfc3339_of_milliseconds(ts)

    @admin.display(boolean=True)
    def paused(self, queue: QueueTopic) -> bool:
        return _counters(queue).is_paused

    @admin.display(description="by seq, untouched")
    def first_jobs(self, queue: QueueTopic) -> str:
        return _once(queue, "_first_jobs", lambda: _jobs(queue))

    @admin.display(description="oldest first")
    def dead_letters(self, queue: QueueTopic) -> str:
        return _once(queue, "_dead_letters", lambda: _letters(queue))

    @admin.action(description="Pause: claims get nothing", permissions=["operate"])
    def pause(self, request: HttpRequest, queryset: QuerySet[QueueTopic]) -> None:
        caller = _caller(request)
        self._apply(
            request,
            queryset,
            "Paused",
            lambda queue: services.pause_queue(name=queue.name, caller=caller),
        )

    @admin.action(description="Resume", permissions=["operate"])
    def resume(self, request: HttpRequest, queryset: QuerySet[QueueTopic]) -> None:
        caller = _caller(request)
        self._apply(
            request,
            queryset,
            "Resumed",
            lambda queue: services.resume_queue(name=queue.name, caller=caller),
        )

    @admin.action(description="Give back all leased jobs at once", permissions=["operate"])
    def release(self, request: HttpRequest, queryset: QuerySet[QueueTopic]) -> None:
        caller = _caller(request)
        self._apply(
            request,
            queryset,
            "Gave back leases of",
            lambda queue: services.release_leases(name=queue.name, caller=caller),
        )

    @admin.action(
        description=f"Redrive dead letters, the {services.MAX_REDRIVE:,} oldest",
        permissions=["operate"],
    )
    def redrive(self, request: HttpRequest, queryset: QuerySet[QueueTopic]) -> None:
        caller = _caller(request)
        self._apply(
            request,
            queryset,
            "Redrove dead letters of",
            lambda queue: services.redrive_dead_letters(name=queue.name, caller=caller),
        )

    def _apply(
        self,
        request: HttpRequest,
        queues: QuerySet[QueueTopic],
        done: str,
        change: Callable[[QueueTopic], object],
    ) -> None:
        """Change queues one by one and tell what became of them."""
        changed = []
        for queue in queues:
            try:
                change(queue)
                changed.append(queue.name)
            except GyozaError as exc:
                self.message_user(request, f"{queue}: {exc.message}", messages.WARNING)
        if changed:
            self.message_user(request, f"{done} {', '.join(changed)}", messages.SUCCESS)


def _caller(request: HttpRequest) -> Caller:
    return caller_of_user(request.user)  # type: ignore[arg-type]


def _counters(queue: QueueTopic) -> QueueCounters:
    found: QueueCounters | None = queue.__dict__.get("_counters")
    if found is None:
        found = queries.queue_counters_now({queue.pk: queue.count})[queue.pk]
        queue.__dict__["_counters"] = found
    return found


def _once(queue: QueueTopic, name: str, build: Callable[[], str]) -> str:
    """Build a part of a page once: the theme asks for each field several times."""
    if name not in queue.__dict__:
        queue.__dict__[name] = build()
    return str(queue.__dict__[name])


def _jobs(queue: QueueTopic) -> str:
    jobs = queries.peek_jobs(queue.name, limit=FIRST_JOBS)
    rows = [
        (
            job,
            clock.rfc3339_of_milliseconds(job.ts),
            None if job.until is None else clock.rfc3339_of_milliseconds(job.until),
        )
        for job in jobs
    ]
    return render_to_string("topics/admin_jobs.html", {"rows": rows})


def _letters(queue: QueueTopic) -> str:
    try:
        letters = queries.read_dead_letters(queue.name, limit=FIRST_JOBS).letters
    except NoDeadLetters:
        letters = []
    rows = [(letter, clock.rfc3339_of_milliseconds(letter.ts)) for letter in letters]
    return render_to_string("topics/admin_dead_letters.html", {"rows": rows})
