"""What the launcher may do in a cluster: exactly this. The chart grants it; a test tries it with nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

Rule = Mapping[str, Sequence[str]]
"""As in a Role."""

NAMESPACE_RULES: Final[Sequence[Rule]] = (
    {"apiGroups": ("batch",), "resources": ("jobs",), "verbs": ("create", "delete", "list", "watch")},
    {"apiGroups": ("",), "resources": ("pods",), "verbs": ("delete", "list", "watch")},
    {"apiGroups": ("",), "resources": ("events",), "verbs": ("list", "watch")},
    # Bus identities. Not `get` nor `list`: it never reads a Secret.
    {"apiGroups": ("",), "resources": ("secrets",), "verbs": ("create", "update", "delete")},
    # image_prefetch
    {
        "apiGroups": ("apps",),
        "resources": ("daemonsets",),
        "verbs": ("create", "update", "delete", "list", "watch"),
    },
    {"apiGroups": ("kueue.x-k8s.io",), "resources": ("localqueues",), "verbs": ("create", "delete")},
)
"""In the namespace of the Workers."""
CLUSTER_RULES: Final[Sequence[Rule]] = ({"apiGroups": ("",), "resources": ("nodes",), "verbs": ("list", "watch")},)
"""Only with `nodes.watch`."""
