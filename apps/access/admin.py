from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.template.response import TemplateResponse
from django.views.decorators.cache import never_cache
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.paginator import InfinitePaginator

from apps.access import services
from apps.access.auth import person_of
from apps.access.forms import ApiKeyForm, ThrottledLoginForm
from apps.access.models import ApiKey, AuditEntry
from apps.core.adminsite import LookOnlyAdmin
from apps.core.markup import json_block

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse

admin.site.login_form = ThrottledLoginForm
admin.site.unregister([User, Group])


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):  # type: ignore[misc, type-arg]
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):  # type: ignore[misc]
    pass


@admin.register(ApiKey)
class ApiKeyAdmin(LookOnlyAdmin):
    """Makes keys, shows a secret once, revokes. A key is never changed: make another."""

    form = ApiKeyForm
    list_display = (
        "name",
        "state",
        "hint",
        "granted",
        "seen",
        "last_used_at",
        "expires_at",
        "created_at",
    )
    list_filter = (("revoked_at", admin.EmptyFieldListFilter), "created_at")
    search_fields = ("name", "hint")
    fields = ("name", "scopes", "prefixes", "expires_at")
    actions = ("revoke",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        # Whoever makes keys may make one that may do everything.
        return bool(request.user.is_superuser)

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("access.change_apikey"))

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> Any:
        made = ("hint", "created_at", "created_by", "last_used_at", "revoked_at")
        return self.fields if obj is None else (*self.fields, *made)

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        key, secret = services.create_key(
            name=form.cleaned_data["name"],
            scopes=form.cleaned_data["scopes"],
            prefixes=form.cleaned_data["prefixes"],
            expires_at=form.cleaned_data["expires_at"],
            caller=person_of(request),
        )
        obj.pk = key.pk
        request.gyoza_secret = secret  # type: ignore[attr-defined]

    def response_add(
        self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None
    ) -> HttpResponse:
        # In this one answer and nowhere else: a message would put the secret into a cookie or a session row.
        return never_cache(_show_secret)(request, self.admin_site.each_context(request), obj)

    @admin.action(description="Revoke, at once and for good", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        keys = list(queryset.standing())  # type: ignore[attr-defined]
        for key in keys:
            services.revoke_key(key=key.pk, caller=person_of(request))
        self.message_user(request, f"Revoked: {len(keys)}", messages.SUCCESS)

    @display(  # type: ignore[untyped-decorator]
        description="State", label={"valid": "success", "expired": "warning", "revoked": "danger"}
    )
    def state(self, key: ApiKey) -> str:
        if key.is_revoked:
            return "revoked"
        return "expired" if key.has_expired else "valid"

    @admin.display(description="Scopes")
    def granted(self, key: ApiKey) -> str:
        return " ".join(key.scopes)

    @admin.display(description="Names", empty_value="every name")
    def seen(self, key: ApiKey) -> str | None:
        return " ".join(f"{prefix}…" for prefix in key.prefixes) or None


@admin.register(AuditEntry)
class AuditEntryAdmin(LookOnlyAdmin):
    """Who changed what, newest first; nobody writes here."""

    list_display = ("at", "actor_name", "action", "target", "correlation_id")
    search_fields = ("target__exact", "actor__exact", "actor_name__exact", "correlation_id__exact")
    search_help_text = "The whole target, actor, name or correlation id."
    fields = ("at", "actor_name", "actor", "action", "target", "told", "correlation_id")
    readonly_fields = ("told",)
    # The trail only grows: counting it for a page number would read all of it.
    paginator = InfinitePaginator

    @admin.display(description="Detail")
    def told(self, entry: AuditEntry) -> str:
        return json_block(entry.detail)


def _show_secret(request: HttpRequest, context: dict[str, Any], key: ApiKey) -> TemplateResponse:
    secret = request.gyoza_secret  # type: ignore[attr-defined]
    context = {**context, "title": "Key made", "key": key, "secret": secret}
    return TemplateResponse(request, "access/admin_key_made.html", context)
