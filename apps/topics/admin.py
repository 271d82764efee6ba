from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from unfold.decorators import action

from apps.access.auth import person_of
from apps.core.adminsite import AskingAdmin, may
from apps.topics import config, pages, predicates, services
from apps.topics.forms import RetentionForm, TrimForm
from apps.topics.models import Topic
from apps.topics.queues.admin import QueueAdmin
from apps.topics.routers.admin import RouterAdmin

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

# Django looks for an app's admin pages here.
__all__ = ["QueueAdmin", "RouterAdmin", "TopicAdmin"]


def _config(topic: Topic) -> dict[str, Any]:
    return {name: getattr(topic, name) for name in config.COLUMNS}


@admin.register(Topic)
class TopicAdmin(AskingAdmin):
    list_display = ("name", "kind", "head", "count", "bytes", "durability", "last_write")
    list_filter = ("kind", "durability")
    search_fields = ("name__startswith",)
    search_help_text = "The beginning of a name."
    ordering = ("name",)
    readonly_fields = ("last_write", "last_records")
    actions_detail = ("change_retention", "delete_records", "delete_topic")
    fieldsets = (
        (None, {"fields": (("name", "kind"), ("created_at", "last_write"))}),
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
        ("Last records", {"fields": ("last_records",)}),
    )

    def has_configure_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, "admin")

    def has_remove_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, "delete")

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Topic | None:
        """Return a topic as every reader sees it: the read of its last records has settled it."""
        topic: Topic | None = super().get_object(request, object_id, from_field)
        shown = None if topic is None else pages.settled(topic)
        if shown is None:
            return None
        shown.row.__dict__["_last_records"] = shown.records
        return shown.row

    @action(description="Change retention", url_path="retention", permissions=["configure"])  # type: ignore[untyped-decorator]
    def change_retention(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def change(topic: Topic, given: dict[str, Any]) -> str:
            wanted = config.of(topic, **given)
            services.configure_topic(topic=topic.name, wanted=wanted, caller=person_of(request))
            return f"{topic}: retention changed."

        question = "What the new limits don't keep is gone at once, and for good."
        return self.ask(
            request,
            object_id,
            title="Change retention",
            question=question,
            change=change,
            form_class=RetentionForm,
            initial=_config,
        )

    @action(description="Delete records", url_path="trim", permissions=["remove"])  # type: ignore[untyped-decorator]
    def delete_records(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def change(topic: Topic, given: dict[str, Any]) -> str:
            removed = services.delete_records(
                topic=topic.name,
                before_seq=given["before_seq"],
                match=predicates.parse(given["match"]) if given["match"] else None,
                caller=person_of(request),
            )
            return f"{topic}: {removed.deleted} records deleted."

        question = "The records are gone at once, and for good. With both, both must hold."
        return self.ask(
            request,
            object_id,
            title="Delete records",
            question=question,
            change=change,
            form_class=TrimForm,
        )

    @action(description="Delete topic", url_path="remove", permissions=["remove"])  # type: ignore[untyped-decorator]
    def delete_topic(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def change(topic: Topic, given: dict[str, Any]) -> str:
            done = services.delete_topic(topic=topic.name, caller=person_of(request))
            routers = ", ".join(done.routers_removed)
            return f"{topic} deleted" + (f", and the routers {routers}." if routers else ".")

        question = "The topic, its records and every router from it or to it are gone for good."
        return self.ask(request, object_id, title="Delete topic", question=question, change=change)

    @admin.display(description="last write", ordering="last_write_ts")
    def last_write(self, topic: Topic) -> str | None:
        return pages.last_write(topic)

    @admin.display(description="newest first")
    def last_records(self, topic: Topic) -> str:
        return str(topic.__dict__["_last_records"])
