"""The chart grants what the launcher needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path

import yaml

from tidemill_scheduler.launchers.kubernetes.rights import CLUSTER_RULES, NAMESPACE_RULES

ROLES = Path(__file__).parents[3] / "deploy" / "helm" / "tidemill" / "files" / "roles.yaml"


def rights(rules: Iterable[Mapping[str, Sequence[str]]]) -> set[tuple[str, ...]]:
    return {right for rule in rules for right in product(rule["apiGroups"], rule["resources"], rule["verbs"])}


def test_the_chart_grants_what_the_launcher_needs() -> None:
    granted = yaml.safe_load(ROLES.read_text())
    assert rights(NAMESPACE_RULES) <= rights(granted["namespaced"]["scheduler"])
    assert rights(CLUSTER_RULES) == rights(granted["cluster"])
