from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from django.contrib import admin
from django.template.loader import render_to_string

from apps.access.auth import person_of
from apps.core import clock
from apps.core.adminsite import ReadOnlyAdmin, once
from apps.topics.models import QueueTopic
from apps.topics.queues import queries, services
from apps.topics.queues.errors import NoDeadLetters
from apps.topics.states import TopicKind

if TYPE_CHECKING:
    from django.contrib.admin.views.main import ChangeList
    from django.db.models import QuerySet
    from django.http import HttpRequest

    from apps.topics.queues.queries import QueueCounters

# What a page shows of a queue's jobs, and of its dead letters.
FIRST_JOBS = 20


@admin.register(QueueTopic)
class QueueAdmin(ReadOnlyAdmin):
    list_display = ("name", "ready", "in_flight", "delayed", "dead_lettered", "oldest", "paused")
    search_fields = ("name__startswith",)
    search_help_text = "The beginning of a name."
    ordering = ("name",)
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

    def get_queryset(self, request: HttpRequest) -> QuerySet[QueueTopic]:
        found: QuerySet[QueueTopic] = super().get_queryset(request).filter(kind=TopicKind.QUEUE)
        return found

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        """Read the counters of all rows of a page at once."""
        listed: ChangeList = super().get_changelist_instance(request)
        rows = list(listed.result_list)
        counters = queries.queue_counters_now({row.pk: row.count for row in rows})
        for row in rows:
            once(row, "counters", partial(counters.get, row.pk))
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
        return str(once(queue, "first_jobs", lambda: _jobs(queue)))

    @admin.display(description="oldest first")
    def dead_letters(self, queue: QueueTopic) -> str:
        return str(once(queue, "dead_letters", lambda: _letters(queue)))

    @admin.action(description="Pause: claims get nothing", permissions=["operate"])
    def pause(self, request: HttpRequest, queryset: QuerySet[QueueTopic]) -> None:
        caller = person_of(request)
        self.apply(
            request,
            queryset,
            "Paused",
            lambda queue: services.pause_queue(name=queue.name, caller=caller),
        )

    @admin.action(description="Resume", permissions=["operate"])
    def resume(self, request: HttpRequest, queryset: QuerySet[QueueTopic]) -> None:
        caller = person_of(request)
        self.apply(
            request,
            queryset,
            "Resumed",
            lambda queue: services.resume_queue(name=queue.name, caller=caller),
        )

    @admin.action(description="Give back all leased jobs at once", permissions=["operate"])
    def release(self, request: HttpRequest, queryset: QuerySet[QueueTopic]) -> None:
        caller = person_of(request)
        self.apply(
            request,
            queryset,
            "Leases given back",
            lambda queue: services.release_leases(name=queue.name, caller=caller),
        )

    @admin.action(
        description=f"Redrive dead letters, the {services.MAX_REDRIVE:,} oldest",
        permissions=["operate"],
    )
    def redrive(self, request: HttpRequest, queryset: QuerySet[QueueTopic]) -> None:
        caller = person_of(request)
        self.apply(
            request,
            queryset,
            "Dead letters redriven",
            lambda queue: services.redrive_dead_letters(name=queue.name, caller=caller),
        )


def _counters(queue: QueueTopic) -> QueueCounters:
    found: QueueCounters = once(
        queue,
        "counters",
        lambda: queries.queue_counters_now({queue.pk: queue.count})[queue.pk],
    )
    return found


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
