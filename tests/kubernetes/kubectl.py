"""kubectl for tests."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster of $KUBECONFIG."""

    def run(self, *arguments: str, given: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`kubectl …`."""
        command = ["kubectl", *arguments]
        done = subprocess.run(command, input=given, capture_output=True, check=False, text=True, timeout=300)
        assert done.returncode == 0 or not check, f"{command}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done

    def get(self, *arguments: str) -> Any:
        """Objects as dictionaries."""
        return json.loads(self.run("get", "-o", "json", *arguments).stdout)

    def names(self, kind: str, namespace: str) -> set[str]:
        """Names of the objects of one kind."""
        return {found["metadata"]["name"] for found in self.get(kind, "-n", namespace)["items"]}

    def may(self, account: str, verb: str, what: str, namespace: str, *more: str) -> bool:
        """Whether a service account (`namespace:name`) may do this, as the API server says."""
        who = f"--as=system:serviceaccount:{account}"
        done = self.run("auth", "can-i", verb, what, "-n", namespace, who, *more, check=False)
        return done.stdout.strip().endswith("yes")

    def get_config(self) -> dict[str, str]:
        """The current cluster of the kubeconfig: `server` and `certificate-authority-data`."""
        text = self.run("config", "view", "--raw", "--minify", "-o", "json").stdout
        return dict(json.loads(text)["clusters"][0]["cluster"])

    def token(self, namespace: str, account: str) -> str:
        """A token of a service account."""
        return self.run("create", "token", account, "-n", namespace).stdout.strip()


def fresh(name: str) -> str:
    """A name that nobody used."""
    return f"{name}-{os.urandom(3).hex()}"
