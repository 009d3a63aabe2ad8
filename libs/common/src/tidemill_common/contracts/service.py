"""Service: what a user defines (OSCAR's FDL, and our own optional fields). Never carries a secret."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from pydantic import AwareDatetime, ConfigDict, Field

from tidemill_common.contracts.contract import Contract, ServiceName, Subject
from tidemill_common.contracts.event import ArtifactRef

DEFAULT_PROVIDER: Final = "minio.default"
"""The platform's own store, whatever software it is."""


class StorageIO(Contract):
    """One entry of `input` or `output`."""

    storage_provider: str = DEFAULT_PROVIDER
    """`<kind>[.<id>]`, kind in lower case, id `default` when absent."""
    path: str
    """`bucket/folder` for S3 kinds, without outer blanks and slashes."""
    prefix: tuple[str, ...] = ()
    """The name must begin with one of these: the path inside TMP_OUTPUT_DIR, or what is behind an input folder."""
    suffix: tuple[str, ...] = ()

    @property
    def bucket(self) -> str:
        """First segment of the path."""
        return self.path.partition("/")[0]

    @property
    def folder(self) -> str:
        """The path behind the bucket, without slashes at its ends; empty: the whole bucket."""
        return self.path.partition("/")[2]

    @property
    def trigger(self) -> str:
        """The name of this entry as a Trigger; part of Invocation ids, so it never changes for one path."""
        return f"{self.storage_provider}:{self.path}"

    def matches(self, artifact: ArtifactRef) -> bool:
        """Whether an object is one of this entry: same provider and bucket, below the folder, name filters passed.

        A folder marker (a key that ends in `/`) and the folder itself never match.
        """
        if artifact.provider != self.storage_provider or artifact.path.endswith("/"):
            return False
        below = f"{self.path}/"
        return artifact.path.startswith(below) and self.passes(artifact.path.removeprefix(below))

    def passes(self, name: str) -> bool:
        """Whether a name passes `prefix` and `suffix` (OSCAR contract 6.4)."""
        return (not self.prefix or name.startswith(self.prefix)) and (not self.suffix or name.endswith(self.suffix))


class RetryPolicy(Contract):
    """When an Attempt fails."""

    attempts: int = Field(default=3, ge=1, le=100)
    """How many Attempts an Invocation gets before it becomes a dead letter."""
    backoff: timedelta = timedelta(seconds=2)
    """Before the second Attempt; doubles each time up to `max_backoff`, with jitter."""
    max_backoff: timedelta = timedelta(minutes=5)
    final_exit_codes: tuple[int, ...] = ()
    """Exit codes after which trying again is pointless: the Invocation is Failed, without dead letter."""


class Synchronous(Contract):
    """OSCAR's bounds on warm Workers; here they hold for both lanes."""

    min_scale: int = Field(default=0, ge=0)
    max_scale: int = Field(default=0, ge=0)
    """0: no bound of its own."""


class Batch(Contract):
    """Several inputs for one run."""

    size: int = Field(default=1, ge=1)
    wait: timedelta = timedelta(seconds=1)


class Expose(Contract):
    """OSCAR contract section 8. Absent when `api_port` is empty."""

    api_port: tuple[int, ...] = ()
    node_port: tuple[int, ...] = Field(default=(), alias="nodePort")
    min_scale: int = 0
    max_scale: int = 0
    cpu_threshold: int = 0
    rewrite_target: bool = False
    default_command: bool = False
    set_auth: bool = False
    auth_type: str = ""
    health_path: str = ""
    probe_mode: str = ""

    model_config = ConfigDict(populate_by_name=True)


class Service(Contract):
    """A Service as every component knows it. Values of secrets and credentials of providers are elsewhere."""

    model_config = ConfigDict(title="ServiceV1")

    name: ServiceName
    image: str
    script: str
    """Content of the user's script, LF line ends."""
    cluster_id: str = ""
    owner: str = "cluster_admin"
    namespace: str = ""
    vo: str = ""
    visibility: str = "private"
    allowed_users: tuple[str, ...] = ()
    isolation_level: str = ""
    bucket_list: tuple[str, ...] = ()

    memory: str = "256Mi"
    cpu: str = "0.2"
    total_memory: str = ""
    total_cpu: str = ""
    ephemeral_storage_request: str = ""
    enable_gpu: bool = False
    enable_sgx: bool = False
    image_prefetch: bool = False
    image_pull_secrets: tuple[str, ...] = ()
    alpine: bool = False
    interlink_node_name: str = ""

    log_level: str = "INFO"
    file_stage_in: bool = False
    """True: the input is not downloaded (OSCAR's meaning)."""
    input: tuple[StorageIO, ...] = ()
    output: tuple[StorageIO, ...] = ()
    variables: dict[str, str] = Field(default_factory=dict)
    secret_names: tuple[str, ...] = ()
    """Names of `environment.secrets`; the values are in the SecretStore."""
    annotations: dict[str, str] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    synchronous: Synchronous = Synchronous()
    expose: Expose | None = None
    extra: dict[str, Any] = Field(default_factory=dict)
    """OSCAR fields that are kept and shown but not acted on here (federation, mount, volume, kserve)."""

    timeout: timedelta | None = None
    """For one Attempt; None: no limit, as in OSCAR."""
    retry: RetryPolicy = RetryPolicy()
    priority: int = 0
    """Among the Services of one owner; higher goes first."""
    slots: int = Field(default=1, ge=1, le=256)
    """Invocations that one Worker runs at a time."""
    reuse: int | None = Field(default=None, ge=1)
    """Invocations a Worker may take before it exits; 1: a fresh one for each; None: as many as come."""
    batch: Batch | None = None
    resident: bool = False
    schedule: str = ""


class ServiceDefined(Contract):
    """The newest definition of one Service. Published by the gateway; kept on DEFINITIONS as the newest of each key."""

    model_config = ConfigDict(title="ServiceDefinedV1")

    name: ServiceName
    revision: int
    """Counted from 1 over the life of the name, also across removal and re-creation."""
    at: AwareDatetime
    service: Service | None = None
    """None: the Service was removed."""


DEFINED: Final = Subject("service.v1.defined.{key}", ServiceDefined)
