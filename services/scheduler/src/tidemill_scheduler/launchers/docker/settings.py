"""What an operator can change about containers of the docker launcher."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field

from tidemill_common.settings import Group

PullPolicy = Literal["missing", "always", "never"]


class DockerSettings(Group):
    """TIDEMILL_SCHEDULER_DOCKER__*."""

    host: str | None = None
    """`unix://` or `tcp://` address of the Engine; None: as for the docker command (DOCKER_HOST, its context, the usual
    socket). The Engine must see this machine's files: Workers' directories are mounted from here."""
    pull: PullPolicy = "missing"
    """When images are pulled: if they are not there, before each Worker, or never."""
    prefetch: bool = True
    """Pull the image of each Service when it is defined, not only when its first Worker starts. False: only those of
    Services that say `image_prefetch`."""
    config_file: Path | None = None
    """Registry credentials as `docker login` writes them; None: `~/.docker/config.json` of this user, if any."""
    network: str = "bridge"
    """Network of user containers: `none`, `bridge`, `host`, or the name of one that is there."""
    cap_drop: tuple[str, ...] = ("AUDIT_WRITE", "MKNOD", "NET_RAW", "SETFCAP", "SETPCAP")
    """Capabilities that Docker gives by default and user code does not get. What is left lets ordinary images change
    to another user and own files; `ALL` leaves none, and then only files of the image's own user can be cleaned up."""
    cap_add: tuple[str, ...] = ()
    pids_limit: int | None = Field(default=4096, ge=16)
    """Processes and threads in one container; None: no limit. It bounds a fork bomb, and few programs come near."""
    read_only: bool = False
    """The image's file system cannot be written; scripts have their workspace, and /tmp in memory."""
    storage_limit: bool = False
    """Limit what a container writes beside its workspace to the Service's `ephemeral_storage_request` as well. Only
    some storage drivers can (overlay2 on xfs with pquota, btrfs, zfs); others then refuse to create containers."""
    runtime: str | None = None
    """Of the Engine (`runsc`, `kata`, …); None: its default."""
    shell: Path = Path("/bin/busybox")
    """Static busybox of this machine, which Workers of images without `/bin/sh` get mounted; where there is none such
    images are refused. Debian's package is busybox-static."""
    timeout: timedelta = timedelta(seconds=30)
    """For one request, pulls and the stream of events excepted. A loaded machine takes seconds to start a container."""
    reconnect: timedelta = timedelta(seconds=1)
    """Between attempts to reach an Engine that went away."""
