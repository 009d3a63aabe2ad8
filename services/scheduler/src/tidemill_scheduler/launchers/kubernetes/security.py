"""What the containers of a Worker may not do. Safe by default; an operator replaces single fields."""

from __future__ import annotations

from typing import Any

from tidemill_common.contracts.service import Service
from tidemill_scheduler.launchers.kubernetes.settings import KubernetesSettings

_SECCOMP = {"type": "RuntimeDefault"}


def pod_security(settings: KubernetesSettings) -> dict[str, Any]:
    """Of the whole pod."""
    return {"seccompProfile": _SECCOMP, **settings.placement.pod_security_context}


def supervisor_security(settings: KubernetesSettings) -> dict[str, Any]:
    """An ordinary user without any capability, who cannot change his own program."""
    return {
        "runAsNonRoot": True,
        "runAsUser": settings.supervisor.user,
        "runAsGroup": settings.supervisor.user,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": _SECCOMP,
        **settings.supervisor.security_context,
    }


def user_security(service: Service, settings: KubernetesSettings) -> dict[str, Any]:
    """The image's own user: many images only work as the user they were built for.

    SGX needs SYS_RAWIO, which is what OSCAR gives.
    """
    safe: dict[str, Any] = {"allowPrivilegeEscalation": False, "seccompProfile": _SECCOMP}
    if service.enable_sgx:
        safe["capabilities"] = {"add": ["SYS_RAWIO"]}
    return {**safe, **settings.user.security_context}
