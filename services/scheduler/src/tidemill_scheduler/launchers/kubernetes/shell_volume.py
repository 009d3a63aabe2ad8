"""The shell that a Worker brings for an image without one: a volume, filled by an init container.

A node starts containers of a pod one after the other once there is an init container, which costs about a second; so
only pods of such images have it. The volume is mounted in user code's container alone, where nobody can write to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from tidemill_scheduler.launchers.kubernetes.security import supervisor_security
from tidemill_scheduler.launchers.kubernetes.settings import KubernetesSettings
from tidemill_scheduler.launchers.shells import DIRECTORY, PROGRAM, SHELL

Json = dict[str, Any]
INIT: Final = "shell"
_VOLUME: Final = "shell"


def with_shell(pod: Json, command: Sequence[str], settings: KubernetesSettings) -> Json:
    """The pod of a Worker, its user container with a shell and this command."""
    supervisor, user = pod["containers"]
    mounts = [
        {"name": _VOLUME, "mountPath": DIRECTORY, "readOnly": True},
        {"name": _VOLUME, "mountPath": SHELL, "subPath": PROGRAM, "readOnly": True},
    ]
    given = {**user, "command": list(command), "volumeMounts": [*user["volumeMounts"], *mounts]}
    return {
        **pod,
        "initContainers": [_filling(supervisor, settings)],
        "containers": [supervisor, given],
        "volumes": [*pod["volumes"], {"name": _VOLUME, "emptyDir": {}}],
    }


def _filling(supervisor: Json, settings: KubernetesSettings) -> Json:
    """Of the supervisor's image, with its limits: a pod needs no more room for it."""
    source = settings.supervisor.shell
    return {
        "name": INIT,
        "image": supervisor["image"],
        "imagePullPolicy": supervisor["imagePullPolicy"],
        "command": [f"{source}/{PROGRAM}", "cp", "-R", f"{source}/.", DIRECTORY],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": supervisor["resources"],
        "securityContext": supervisor_security(settings),
        "volumeMounts": [{"name": _VOLUME, "mountPath": DIRECTORY}],
    }
