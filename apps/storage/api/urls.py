"""Whoever asks below `objects/` names a key; what is asked of it besides stands behind the key."""

from __future__ import annotations

from django.urls import path, register_converter

from apps.core.api.slashes import slashed
from apps.storage.api import archives, listing_views, objects


class KeyConverter:
    """Any characters: which of them a key may have is said by keys.py, not by a URL that isn't found."""

    regex = "(?s:.+)"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


register_converter(KeyConverter, "key")

app_name = "storage"

urlpatterns = [
    slashed(
        "api/v1/storage/archive/<str:execution>", archives.ArchiveView.as_view(), name="archive"
    ),
    slashed("api/v1/storage/objects", listing_views.ObjectListView.as_view(), name="object-list"),
    slashed(
        "api/v1/storage/objects/<key:key>/metadata",
        listing_views.ObjectMetadataView.as_view(),
        name="object-metadata",
    ),
    path("api/v1/storage/objects/<key:key>", objects.ObjectView.as_view(), name="object"),
]
