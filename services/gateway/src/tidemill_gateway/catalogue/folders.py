"""Which buckets and folders a Service needs before its first event (OSCAR contract 4.1)."""

from __future__ import annotations

from dataclasses import dataclass

from tidemill_common.contracts.service import DEFAULT_PROVIDER, Service, StorageIO


@dataclass(frozen=True, slots=True)
class Folder:
    """One place in an S3 store that a Service reads or writes."""

    provider: str
    bucket: str
    folder: str
    """Without slashes at its ends; empty: the whole bucket."""

    @property
    def marker(self) -> str | None:
        """Path of the zero-byte object that makes the folder visible; None: there is no folder."""
        return f"{self.bucket}/{self.folder}/" if self.folder else None

    @property
    def is_local(self) -> bool:
        """Whether it is in the platform's own store."""
        return self.provider == DEFAULT_PROVIDER


def folders_of(service: Service) -> tuple[Folder, ...]:
    """Inputs, then outputs, each place once; kinds without buckets make their folders when they write."""
    places = (_folder(entry) for entry in (*service.input, *service.output) if _has_buckets(entry))
    return tuple(dict.fromkeys(places))


def buckets_of(service: Service) -> frozenset[str]:
    """Buckets of the platform's own store that the Service reads or writes."""
    return frozenset(folder.bucket for folder in folders_of(service) if folder.is_local)


def _has_buckets(entry: StorageIO) -> bool:
    return entry.storage_provider.partition(".")[0] in ("minio", "s3")


def _folder(entry: StorageIO) -> Folder:
    return Folder(entry.storage_provider, entry.bucket, entry.folder)
