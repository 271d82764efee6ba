from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.template.loader import render_to_string
from unfold.admin import ModelAdmin

from apps.access.auth import caller_of_user
from apps.core import clock
from apps.topics import queries
from apps.topics.models import Topic
from apps.topics.queues.admin import QueueAdmin

if TYPE_CHECKING:
    from django.http import HttpRequest

# Django looks for an app's admin pages here.
__all__ = ["QueueAdmin", "TopicAdmin"]

# What a page shows of the end of a log.
LAST_RECORDS = 20


@admin.register(Topic)
class TopicAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = ("name", "kind", "head", "count", "bytes", "durability", "last_write")
    list_filter = ("kind", "durability")
    search_fields = ("name__startswith",)
    search_help_text = "The beginning of a name."
    ordering = ("name",)
    show_full_result_count = False
    readonly_fields = ("last_write", "last_records")
    fieldsets = (
        (None, {"fields": (("name", "kind"), ("created_at", "last_write"))}),
        ("Last records", {"fields": ("last_records",)}),
        (
            "Watermarks",
            {
                "fields": (
                    ("head", "earliest"),
                    ("count", "bytes"),
                    ("cap_floor", "ttl_floor"),
                    "source_floor",
                )
            },
        ),
        (
            "Retention",
            {"fields": (("ttl_ms", "discard"), ("cap_records", "cap_bytes"), "durability")},
        ),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return caller_of_user(request.user).may("read")  # type: ignore[arg-type]

    @admin.display(description="last write", ordering="last_write_ts")
    def last_write(self, topic: Topic) -> str | None:
        if topic.last_write_ts is None:
            return None
        return clock.rfc3339_of_milliseconds(topic.last_write_ts)

    @admin.display(description="newest first")
    def last_records(self, topic: Topic) -> str:
        shown = topic.__dict__.get("_last_records")
        if shown is None:
            page = queries.read_after(topic.name, max(0, topic.head - LAST_RECORDS), LAST_RECORDS)
            records = page.records[::-1] if page else []
            rows = [(record, clock.rfc3339_of_milliseconds(record.ts)) for record in records]
            shown = render_to_string("topics/admin_records.html", {"rows": rows})
            # The theme asks for each field several times.
            topic.__dict__["_last_records"] = shown
        return str(shown)
