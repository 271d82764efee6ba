"""Shapes for OpenAPI; `storage.wire` writes answers."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers


class StoredObjectSerializer(serializers.Serializer[Any]):
    key = serializers.CharField()
    execution_id = serializers.UUIDField()
    stage = serializers.CharField()
    path = serializers.CharField()
    extension = serializers.CharField(
        help_text="In lower case with its dot; empty if there is none."
    )
    content_type = serializers.CharField()
    content_length = serializers.IntegerField()
    checksum = serializers.CharField(help_text="`sha256:` and the sum.")
    etag = serializers.CharField(help_text="Another one for each write.")
    created_at = serializers.DateTimeField()
    modified_at = serializers.DateTimeField()
    run_id = serializers.UUIDField(
        allow_null=True, help_text="The run that wrote it with its token."
    )
    metadata = serializers.DictField(child=serializers.CharField(), required=False)


class ObjectPageSerializer(serializers.Serializer[Any]):
    objects = StoredObjectSerializer(many=True)
    common_prefixes = serializers.ListField(child=serializers.CharField())
    total = serializers.IntegerField(help_text="Objects and common prefixes, over all pages.")
    limit = serializers.IntegerField()
    offset = serializers.IntegerField()
    has_more = serializers.BooleanField()
