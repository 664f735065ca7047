"""Objects in an S3 bucket, through the MinIO SDK and plain S3 only."""

from __future__ import annotations

import io
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

import certifi
import urllib3
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3.exceptions import HTTPError

from histill.adapters.measures import Failure, Store, expect, failed
from histill.core.errors import (
    NotFoundError,
    SettingsError,
    StorageRefusedError,
    StorageUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from histill.core.settings import S3Settings

_PART_BYTES = 16 << 20
_MISSING = frozenset({"NoSuchKey", "NoSuchObject", "ResourceNotFound"})
_WRONG_KEYS = frozenset({"SignatureDoesNotMatch", "InvalidAccessKeyId", "AccessDenied"})


class S3ObjectStore:
    """Implements ``ObjectStore``; safe to share between threads.

    Args:
        client: A configured client.
        bucket: Name of the bucket.
        create: Whether ``ensure_bucket`` may make it.
    """

    def __init__(self, client: Minio, bucket: str, *, create: bool = True) -> None:
        self._client = client
        self._bucket = bucket
        self._create = create

    @classmethod
    def connect(cls, settings: S3Settings) -> Self:
        """A store over the server of the settings; opens no connection yet.

        Raises:
            SettingsError: The secret key is missing, or the endpoint is no host and port.
        """
        if not settings.secret_key.get_secret_value():
            raise SettingsError("HISTILL_S3__SECRET_KEY is not set")
        pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=settings.timeout_s, read=settings.timeout_s),
            maxsize=16,
            cert_reqs="CERT_REQUIRED",
            ca_certs=settings.ca_file or certifi.where(),
            # Not 503 and the like: a store that refuses is reported, not hidden by waiting.
            retries=urllib3.Retry(total=2, connect=2, read=1, backoff_factor=0.2),
        )
        try:
            client = Minio(
                settings.endpoint,
                access_key=settings.access_key,
                secret_key=settings.secret_key.get_secret_value(),
                secure=settings.secure,
                region=settings.region,
                http_client=pool,
            )
        except ValueError:
            raise SettingsError(
                "HISTILL_S3__ENDPOINT must be host:port, without scheme, user or path"
            ) from None
        expect(Store.S3)
        return cls(client, settings.bucket, create=settings.create_bucket)

    def ensure_bucket(self) -> bool:
        """Makes the bucket unless it is there; returns whether it did.

        Raises:
            StorageRefusedError: Our keys are wrong, or there is none and we may not make it.
        """
        with self._translated("bucket"):
            if self._client.bucket_exists(self._bucket):
                return False
            if not self._create:
                raise StorageRefusedError(
                    f"bucket {self._bucket} does not exist, and HISTILL_S3__CREATE_BUCKET is off; "
                    "make it, or correct HISTILL_S3__BUCKET"
                )
            try:
                self._client.make_bucket(self._bucket)
            except S3Error as exc:
                if exc.code in _WRONG_KEYS:
                    failed(Store.S3, Failure.CREDENTIALS)
                    raise StorageRefusedError(
                        f"bucket {self._bucket} does not exist, and the holder of "
                        f"HISTILL_S3__ACCESS_KEY may not make it ({exc.code}); make it, or "
                        "correct HISTILL_S3__BUCKET"
                    ) from exc
                if exc.code not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                    raise
                return False
        return True

    def ping(self) -> None:
        """Returns when the store answers and the bucket is there."""
        with self._translated("bucket"):
            there = self._client.bucket_exists(self._bucket)
        if not there:
            failed(Store.S3, Failure.REFUSED)
            raise StorageUnavailableError(f"bucket {self._bucket} does not exist")

    def put(self, key: str, data: bytes) -> None:
        """Stores ``data`` under ``key``."""
        with self._translated(key):
            self._client.put_object(self._bucket, key, io.BytesIO(data), len(data))

    def put_file(self, key: str, path: Path) -> None:
        """Stores a file's bytes under ``key``, in parts when it is large."""
        with self._translated(key), path.open("rb") as file:
            # Of what was opened: the file may be replaced meanwhile.
            size = os.fstat(file.fileno()).st_size
            self._client.put_object(self._bucket, key, file, size, part_size=_PART_BYTES)

    def get(self, key: str) -> bytes:
        """The object's bytes."""
        return b"".join(self.read(key))

    def read(self, key: str, *, chunk_size: int = 1 << 20) -> Iterator[bytes]:
        """The object's bytes in chunks."""
        with self._translated(key):
            answer = self._client.get_object(self._bucket, key)
            try:
                yield from answer.stream(chunk_size)
            finally:
                # Closed, not drained: a reader that stops early must not read the rest.
                answer.close()
                answer.release_conn()

    def list(self, prefix: str) -> Iterator[str]:
        """Keys that start with ``prefix``, sorted."""
        yield from (key for key, _ in self.sizes(prefix))

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Keys that start with ``prefix``, sorted, with their sizes in bytes."""
        with self._translated(prefix):
            for found in self._client.list_objects(self._bucket, prefix, recursive=True):
                yield str(found.object_name), int(found.size or 0)

    def list_folders(self, prefix: str) -> Iterator[str]:
        """Names of the folders right under ``prefix``."""
        with self._translated(prefix):
            for found in self._client.list_objects(self._bucket, prefix):
                if found.is_dir:
                    yield str(found.object_name).removeprefix(prefix).rstrip("/")

    def delete(self, key: str) -> None:
        """Removes an object; one that is not there is no error."""
        with self._translated(key):
            self._client.remove_object(self._bucket, key)

    def delete_prefix(self, prefix: str) -> None:
        """Removes every object whose key starts with ``prefix``."""
        with self._translated(prefix):
            keys = [DeleteObject(key) for key in self.list(prefix)]
            for kept in self._client.remove_objects(self._bucket, keys):
                failed(Store.S3, Failure.REFUSED)
                raise StorageUnavailableError(f"{kept.name} cannot be removed: {kept.message}")

    def keeps_versions(self) -> bool:
        """Whether versions of objects are, or once were, turned on; so, too, where we may not know.

        A server that has no versions refuses the question.
        """
        try:
            return bool(self._client.get_bucket_versioning(self._bucket).status)
        except S3Error as exc:
            return exc.code in _WRONG_KEYS
        except (MinioException, HTTPError, OSError, ValueError):
            self.ping()
            return False

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        try:
            yield
        except S3Error as exc:
            if exc.code in _MISSING:
                raise NotFoundError(f"object {key} does not exist") from exc
            if exc.code in _WRONG_KEYS:
                failed(Store.S3, Failure.CREDENTIALS)
                raise StorageRefusedError(
                    f"S3 refuses our keys ({exc.code}); "
                    "correct HISTILL_S3__ACCESS_KEY and HISTILL_S3__SECRET_KEY"
                ) from exc
            failed(Store.S3, Failure.REFUSED)
            raise StorageUnavailableError(f"S3 refused {key}: {exc.code} {exc.message}") from exc
        except (ServerError, InvalidResponseError, MinioException) as exc:
            failed(Store.S3, Failure.REFUSED)
            raise StorageUnavailableError(f"S3 failed on {key}: {exc}") from exc
        except (HTTPError, OSError) as exc:
            failed(Store.S3, Failure.UNANSWERED)
            raise StorageUnavailableError(
                f"S3 does not answer ({type(exc).__name__}); is HISTILL_S3__ENDPOINT right?"
            ) from exc
