"""Blobs in a bucket of S3, or of anything that speaks like it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings
from storages.backends.s3 import S3Storage

if TYPE_CHECKING:
    from apps.storage.blobs import Readable

_PART_BYTES = 8 * 1024 * 1024


class Bucket(S3Storage):  # type: ignore[misc]
    """django-storages' S3 backend, which reads from where it is asked to, and holds few parts at a time."""

    away = (Boto3Error, BotoCoreError, ClientError)

    def get_default_settings(self) -> dict[str, Any]:
        return {
            **super().get_default_settings(),
            # A name is written once, so nobody need be asked whether it is taken.
            "file_overwrite": True,
            "querystring_auth": True,
            "default_acl": None,
            "client_config": Config(
                connect_timeout=settings.GYOZA_S3_CONNECT_SECONDS,
                read_timeout=settings.GYOZA_S3_READ_SECONDS,
                retries={"mode": "standard", "total_max_attempts": settings.GYOZA_S3_ATTEMPTS},
            ),
            # Ten threads with a part of 8 MiB each would be more than a web process has to spare.
            "transfer_config": TransferConfig(
                multipart_threshold=_PART_BYTES, multipart_chunksize=_PART_BYTES, max_concurrency=2
            ),
        }

    def open_at(self, name: str, start: int) -> Readable:
        """Open an object at an offset; it is read as it comes. Raises FileNotFoundError."""
        span = {"Range": f"bytes={start}-"} if start else {}
        try:
            answer = self.bucket.Object(self._normalize_name(name)).get(**span)
        except ClientError as exc:
            if exc.response["Error"]["Code"] in {"NoSuchKey", "404"}:
                raise FileNotFoundError(name) from exc
            raise
        body: Readable = answer["Body"]
        return body
