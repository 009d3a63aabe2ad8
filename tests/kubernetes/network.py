"""What NetworkPolicies allow, read from manifests: the testbed's network does not enforce them. Pure.

https://kubernetes.io/docs/concepts/services-networking/network-policies/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Object = Mapping[str, Any]
_COMPONENT = "app.kubernetes.io/component"


@dataclass(frozen=True, kw_only=True)
class Pod:
    """One end of a connection."""

    name: str
    namespace: str
    labels: Mapping[str, str]
    ports: Mapping[str, int]
    """By name."""
    told: str = ""
    """All that its environment says, where addresses stand."""


def pods_in(objects: Iterable[Object], namespace: str) -> list[Pod]:
    """The pods of everything that runs, named by their component."""
    found = []
    for item in objects:
        template = item.get("spec", {}).get("template")
        if isinstance(template, Mapping):
            labels = template["metadata"]["labels"]
            containers = [*template["spec"].get("initContainers", ()), *template["spec"]["containers"]]
            ports = {port["name"]: port["containerPort"] for one in containers for port in one.get("ports", ())}
            told = " ".join(str(entry.get("value", "")) for one in containers for entry in one.get("env", ()))
            found.append(Pod(name=labels[_COMPONENT], namespace=namespace, labels=labels, ports=ports, told=told))
    return found


def addressed(text: str, objects: Sequence[Object], namespace: str) -> Iterator[tuple[str, str]]:
    """(component, name of its port) of each Kubernetes Service whose address stands in a text."""
    services = {item["metadata"]["name"]: item for item in objects if item["kind"] == "Service"}
    for name, number in re.findall(rf"([a-z0-9-]+)\.{namespace}\.svc[a-z.]*:(\d+)", text):
        port = next(port for port in services[name]["spec"]["ports"] if port["port"] == int(number))
        yield services[name]["spec"]["selector"][_COMPONENT], port["targetPort"]


def allows(policies: Iterable[Object], source: Pod, target: Pod, port: str) -> bool:
    """Whether a connection may come in."""
    chosen = [
        policy
        for policy in policies
        if policy["metadata"].get("namespace", target.namespace) == target.namespace
        and matches(policy["spec"]["podSelector"], target.labels)
    ]
    rules = [rule for policy in chosen for rule in policy["spec"].get("ingress") or ()]
    return not chosen or any(_rule_allows(rule, source, target, port) for rule in rules)


def matches(selector: Object, labels: Mapping[str, str]) -> bool:
    """A label selector; of operators that we use."""
    assert selector.keys() <= {"matchLabels", "matchExpressions"}, selector
    for expression in selector.get("matchExpressions", ()):
        assert expression["operator"] == "In", expression
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items())


def _rule_allows(rule: Object, source: Pod, target: Pod, port: str) -> bool:
    ports = [entry["port"] for entry in rule.get("ports", ())]
    peers = rule.get("from") or ()
    return (not ports or port in ports or target.ports[port] in ports) and (
        not peers or any(_is_peer(peer, source, target) for peer in peers)
    )


def _is_peer(peer: Object, source: Pod, target: Pod) -> bool:
    if (namespaces := peer.get("namespaceSelector")) is None:
        is_there = source.namespace == target.namespace
    else:
        is_there = matches(namespaces, {"kubernetes.io/metadata.name": source.namespace, "name": source.namespace})
    return is_there and matches(peer.get("podSelector", {}), source.labels)
