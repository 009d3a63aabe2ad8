"""kubectl for tests."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable
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

    def allowed(self, account: str, asked: Iterable[tuple[str, str, str]]) -> set[tuple[str, str, str]]:
        """Which of these (verb, `resource.group/subresource`, namespace) an account (`namespace:name`) may do."""
        wanted = list(asked)
        given = "\n---\n".join(json.dumps(_review(account, *each)) for each in wanted)
        text = self.run("create", "-o", "json", "-f", "-", given=given).stdout
        decoder, answers = json.JSONDecoder(), []
        while text := text.lstrip():
            answer, end = decoder.raw_decode(text)
            answers += answer.get("items", [answer])
            text = text[end:]
        assert len(answers) == len(wanted)
        return {each for each, answer in zip(wanted, answers, strict=True) if answer["status"]["allowed"]}

    def get_config(self) -> dict[str, str]:
        """The current cluster of the kubeconfig: `server` and `certificate-authority-data`."""
        text = self.run("config", "view", "--raw", "--minify", "-o", "json").stdout
        return dict(json.loads(text)["clusters"][0]["cluster"])

    def token(self, namespace: str, account: str) -> str:
        """A token of a service account."""
        return self.run("create", "token", account, "-n", namespace).stdout.strip()


def _review(account: str, verb: str, what: str, namespace: str) -> dict[str, Any]:
    """https://kubernetes.io/docs/reference/kubernetes-api/authorization-resources/subject-access-review-v1/"""
    kind, _, subresource = what.partition("/")
    resource, _, group = kind.partition(".")
    where = {"namespace": namespace, "verb": verb, "group": group, "resource": resource, "subresource": subresource}
    spec = {"user": f"system:serviceaccount:{account}", "resourceAttributes": where}
    return {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}


def fresh(name: str) -> str:
    """A name that nobody used."""
    return f"{name}-{os.urandom(3).hex()}"
