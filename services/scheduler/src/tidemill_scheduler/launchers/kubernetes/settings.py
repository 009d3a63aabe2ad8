"""What an operator can change of Workers in a cluster."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

from pydantic import Field, model_validator

from tidemill_common.quantity import size_bytes
from tidemill_common.settings import Group

CLOSING: Final = timedelta(seconds=10)
"""What a supervisor needs after its drain to stop scripts, give Leases back and close."""


class PullPolicy(StrEnum):
    """When the node asks the registry."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class SupervisorContainer(Group):
    """The container beside user code."""

    image: str = "tidemill-supervisor:latest"
    pull_policy: PullPolicy | None = None
    """None: as for user images."""
    command: tuple[str, ...] = ()
    """Empty: the image's entry point."""
    cpu_request: str = "20m"
    """What it needs while a script runs; staging uses what is free."""
    memory_request: str = "64Mi"
    cpu_limit: str = ""
    """Empty: none, so that staging is not throttled."""
    memory_limit: str = "512Mi"
    """Empty: none."""
    user: int = Field(default=65532, ge=1)
    """Its uid and gid; never root."""
    security_context: dict[str, Any] = Field(default_factory=dict)
    """Kubernetes fields that replace the safe defaults."""
    shell: str = "/opt/tidemill/shell"
    """Directory of its image with a static busybox and links to it, which Workers of images without `/bin/sh` bring
    along. Empty: such images are refused."""


class UserContainer(Group):
    """The container of the user's image."""

    pull_policy: PullPolicy | None = None
    """None: Always for the tag `latest`, else IfNotPresent. OSCAR: Always."""
    request_ratio: float = Field(default=1.0, gt=0, le=1)
    """Requests as a part of the limits; 1 is what OSCAR does, less packs more Workers on a node."""
    security_context: dict[str, Any] = Field(default_factory=dict)
    """Kubernetes fields that replace the safe defaults, `runAsNonRoot` for one."""
    gpu_resource: str = "nvidia.com/gpu"
    sgx_resource: str = "sgx.intel.com/enclave"


class PlacementSettings(Group):
    """Where Workers may run."""

    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: tuple[dict[str, Any], ...] = ()
    architecture: str = ""
    """`amd64`, `arm64`; empty: any, which needs images for all that there are."""
    priority_class: str = ""
    runtime_class: str = ""
    scheduler_name: str = ""
    lost_node_after: timedelta = timedelta(seconds=30)
    """A node that does not answer loses its pods after this (Kubernetes' own default is 5 minutes)."""
    pod_security_context: dict[str, Any] = Field(default_factory=dict)


class NodePoolSettings(Group):
    """Capacity from the cluster's nodes; `pool` of the scheduler wins where it is set."""

    watch: bool = True
    """False: no right to read nodes is needed, and `pool` must be set."""
    reserve_cpu_millicores: int = Field(default=200, ge=0)
    """Of each node, for what else runs there."""
    reserve_memory_bytes: int = Field(default=512 * 1024**2, ge=0)


class KubernetesSettings(Group):
    """Workers as Kubernetes Jobs."""

    namespace: str = "tidemill-services"
    """Where Workers run and their Secrets are."""
    kubeconfig: Path | None = None
    """None: the service account of the pod this runs in; outside of a cluster $KUBECONFIG or ~/.kube/config."""
    context: str | None = None
    """Of the kubeconfig; None: its current one."""
    bus_url: str | None = None
    """How pods reach the bus; None: as the scheduler does."""
    supervisor: SupervisorContainer = SupervisorContainer()
    user: UserContainer = UserContainer()
    placement: PlacementSettings = PlacementSettings()
    nodes: NodePoolSettings = NodePoolSettings()
    image_pull_secrets: tuple[str, ...] = ()
    """For every Worker, beside the Service's own; the supervisor's image may need one."""
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    """More of both, on Jobs and pods."""
    workspace_size: str = ""
    """Limit of the volume that holds workspaces; empty: none but the node's."""

    kueue: bool = False
    """Jobs of all but the admin begin suspended, in the queue `kueue_queue`."""
    kueue_queue: str = "oscar-lq-{service}"
    """Its name; with `{service}` in it each Service has one that the launcher makes."""
    kueue_cluster_queue: str = "oscar-cq-{owner}"
    """What these lead to; the operator makes it, and says there how much an owner may take."""
    yunikorn: bool = False
    """Jobs name their YuniKorn queue and application."""

    ttl: timedelta = timedelta(minutes=10)
    """How long an ended Job can be looked at; then the cluster removes it."""
    deadline: timedelta | None = None
    """Longest life of a Worker; None: no bound. Ends what runs, so only for clusters that demand it."""
    termination_grace: timedelta = timedelta(seconds=30)
    """Between a pod's SIGTERM and its SIGKILL, when something else than the scheduler ends it."""
    unschedulable_timeout: timedelta = timedelta(minutes=5)
    """A Worker that finds no node, or no quota, for this long is withdrawn, and its Service backs off."""
    max_unschedulable: int = Field(default=1, ge=1)
    """Workers of one Service that may wait for a node or a quota; more where an autoscaler adds nodes for them."""
    container_timeout: timedelta = timedelta(minutes=2)
    """A pod whose containers cannot be made (a Secret is missing) for this long is withdrawn."""
    leftover_timeout: timedelta = timedelta(seconds=30)
    """How long the user's container may outlive a supervisor that ended in order: it ends with it, but a busy node is
    slow to say so."""
    abandoned_timeout: timedelta = timedelta(seconds=3)
    """The same for a supervisor that died: until then nobody hears what became of its Invocations."""
    ending_timeout: timedelta = timedelta(seconds=20)
    """How long a supervisor may outlive the user's container: it ends its Attempt meanwhile."""
    drain_interval: timedelta = timedelta(seconds=5)
    """How often a Worker that drains is told so again; the message may be lost."""
    prefetch_timeout: timedelta = timedelta(minutes=30)
    """After this `image_prefetch` gives up."""

    @model_validator(mode="after")
    def _has_time_to_drain(self) -> Self:
        if self.termination_grace <= CLOSING:
            raise ValueError(f"termination_grace must be above {CLOSING.total_seconds():g} s")
        return self

    @model_validator(mode="after")
    def _quantities_can_be_read(self) -> Self:
        box = self.supervisor
        for text in (box.memory_request, box.memory_limit, box.cpu_request, box.cpu_limit, self.workspace_size):
            if text:
                size_bytes(text)
        return self
