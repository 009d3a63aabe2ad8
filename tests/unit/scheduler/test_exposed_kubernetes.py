"""Routes of exposed Services, and what Deployments and pods say."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tests.unit.scheduler.test_exposed_domain import exposure
from tidemill_scheduler.exposing.domain import Observation
from tidemill_scheduler.exposing.kubernetes.protection import htpasswd
from tidemill_scheduler.exposing.kubernetes.routes import routes
from tidemill_scheduler.exposing.kubernetes.states import observation
from tidemill_scheduler.exposing.kubernetes.template import deployment, kubernetes_service, scale_of
from tidemill_scheduler.exposing.settings import ExposedSettings
from tidemill_scheduler.launchers.kubernetes.settings import KubernetesSettings

SETTINGS = KubernetesSettings(namespace="svc")
INGRESS = ExposedSettings(route="ingress", host="oscar.example.org")
HTTPROUTE = ExposedSettings(route="httproute", gateway_name="edge", auth_url="http://gw:8080/")


def kinds(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """(kind, name) of each."""
    return [(item["kind"], item["metadata"]["name"]) for item in found]


def test_where_the_gateway_leads_there_is_no_route() -> None:
    assert routes(exposure(set_auth=True), "t", SETTINGS, ExposedSettings()) == []


def test_a_service_with_a_port_of_the_nodes_has_no_route() -> None:
    assert routes(exposure(nodePort=(30000,)), "t", SETTINGS, INGRESS) == []
    assert kubernetes_service(exposure(nodePort=(30000,)), SETTINGS)["spec"]["type"] == "NodePort"


def test_an_ingress_strips_the_prefix_as_oscars_does() -> None:
    (found,) = routes(exposure(), "t", SETTINGS, INGRESS)
    assert (found["kind"], found["metadata"]["name"]) == ("Ingress", "web-ing")
    annotations = found["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/rewrite-target"] == "/$1"
    assert annotations["nginx.ingress.kubernetes.io/use-regex"] == "true"
    assert annotations["nginx.ingress.kubernetes.io/proxy-body-size"] == "0"
    rule = found["spec"]["rules"][0]
    assert rule["host"] == "oscar.example.org"
    assert rule["http"]["paths"][0]["path"] == "/system/services/web/exposed/?(.*)"
    assert found["spec"]["tls"] == [{"hosts": ["oscar.example.org"], "secretName": "oscar.example.org"}]
    (whole,) = routes(exposure(rewrite_target=True), "t", SETTINGS, INGRESS)
    target = whole["metadata"]["annotations"]["nginx.ingress.kubernetes.io/rewrite-target"]
    assert target == "/system/services/web/exposed/$1"


def test_a_protected_ingress_has_its_secret() -> None:
    found = routes(exposure(set_auth=True), "t", SETTINGS, INGRESS)
    assert kinds(found) == [("Secret", "web-auth-expose"), ("Ingress", "web-ing")]
    assert found[1]["metadata"]["annotations"]["nginx.ingress.kubernetes.io/auth-secret"] == "web-auth-expose"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [("Middleware", "web-cors-mdw"), ("HTTPRoute", "web-route")]),
        (
            {"set_auth": True},
            [
                ("Middleware", "web-cors-mdw"),
                ("Secret", "web-auth-traefik"),
                ("Middleware", "web-auth-mdw"),
                ("HTTPRoute", "web-route"),
            ],
        ),
        (
            {"set_auth": True, "auth_type": "forward"},
            [("Middleware", "web-cors-mdw"), ("Middleware", "web-auth-mdw"), ("HTTPRoute", "web-route")],
        ),
    ],
)
def test_an_httproute_has_traefiks_middlewares(fields: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert kinds(routes(exposure(**fields), "t", SETTINGS, HTTPROUTE)) == expected


@pytest.mark.parametrize(
    ("fields", "middlewares"),
    [
        ({}, ["web-cors-mdw", "web-strip-mdw"]),
        ({"rewrite_target": True}, ["web-cors-mdw"]),
        ({"set_auth": True}, ["web-cors-mdw", "web-auth-mdw", "web-strip-mdw"]),
    ],
)
def test_traefiks_ingress_names_its_middlewares_in_their_order(fields: dict[str, Any], middlewares: list[str]) -> None:
    exposed = ExposedSettings(route="ingress", ingress_controller="traefik", ingress_class="traefik")
    *made, ingress = routes(exposure(**fields), "t", SETTINGS, exposed)
    assert [name for kind, name in kinds(made) if kind == "Middleware"] == middlewares
    uses = ",".join(f"svc-{name}@kubernetescrd" for name in middlewares)
    assert ingress["metadata"]["annotations"] == {"traefik.ingress.kubernetes.io/router.middlewares": uses}
    (path,) = ingress["spec"]["rules"][0]["http"]["paths"]
    assert (path["path"], path["pathType"]) == ("/system/services/web/exposed", "Prefix")


def test_an_operators_annotations_come_to_ours_and_replace_them() -> None:
    own = {"nginx.ingress.kubernetes.io/proxy-buffering": "on", "example.org/of": "{service} {namespace} {path} {x}"}
    exposed = ExposedSettings(route="ingress", ingress_annotations=own)
    (ingress,) = routes(exposure(), "t", SETTINGS, exposed)
    annotations = ingress["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/proxy-buffering"] == "on"
    assert annotations["nginx.ingress.kubernetes.io/use-regex"] == "true"
    assert annotations["example.org/of"] == "web svc /system/services/web/exposed {x}"


def test_forward_protection_asks_the_gateway() -> None:
    found = routes(exposure(set_auth=True, auth_type="forward"), "t", SETTINGS, HTTPROUTE)
    assert found[1]["spec"]["forwardAuth"] == {
        "address": "http://gw:8080/system/services/web/auth",
        "addAuthCookiesToResponse": ["oscar_service_web_auth"],
    }


def test_forward_protection_without_an_address_is_basic_and_never_none() -> None:
    exposed = ExposedSettings(route="httproute", gateway_name="edge")
    found = routes(exposure(set_auth=True, auth_type="forward"), "t", SETTINGS, exposed)
    assert ("Secret", "web-auth-traefik") in kinds(found)


def test_the_prefix_is_rewritten_unless_the_server_wants_it() -> None:
    for whole, count in ((False, 1), (True, 0)):
        (*_, route) = routes(exposure(rewrite_target=whole), "t", SETTINGS, HTTPROUTE)
        rewrites = [one for one in route["spec"]["rules"][0]["filters"] if one["type"] == "URLRewrite"]
        assert len(rewrites) == count


def test_an_httproute_needs_its_gateway() -> None:
    with pytest.raises(ValidationError, match="gateway_name"):
        ExposedSettings(route="httproute")


def test_a_password_line_is_what_htpasswd_writes() -> None:
    assert htpasswd("web", "password") == "web:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="


def test_the_deployment_does_not_own_its_number_of_pods() -> None:
    assert "replicas" not in deployment(exposure(), SETTINGS)["spec"]
    assert scale_of(exposure(), SETTINGS, 0, 3)["metadata"]["annotations"] == {
        "oscar.grycap.io/stopped": "true",
        "oscar.grycap.io/previous-replicas": "3",
    }


def pod(**status: Any) -> dict[str, Any]:
    """One pod."""
    return {"metadata": {"name": "p"}, "status": status}


def waiting(reason: str, **more: Any) -> dict[str, Any]:
    """A pod whose container waits."""
    return pod(containerStatuses=[{"ready": False, "state": {"waiting": {"reason": reason, **more}}}])


READY = {"status": {"readyReplicas": 2, "replicas": 2}}
UNSCHEDULED = pod(
    conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]
)
KILLED = pod(
    containerStatuses=[
        {
            "ready": False,
            "state": {"running": {}},
            "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}},
        }
    ]
)


@pytest.mark.parametrize(
    ("deployment", "pods", "expected"),
    [
        (None, [], Observation()),
        (READY, [pod(), pod()], Observation(urls=("http://10.0.0.1:80",), active=2, present=2)),
        ({}, [waiting("ContainerCreating")], Observation(present=1)),
        (
            {},
            [waiting("ImagePullBackOff", message="no such image")],
            Observation(present=1, reason="ImagePullBackOff: no such image", is_broken=True),
        ),
        ({}, [UNSCHEDULED], Observation(present=1, reason="Unschedulable: 0/1 nodes")),
        ({}, [KILLED], Observation(present=1, reason="OOMKilled, exit code 137", is_broken=True)),
        (
            {},
            [UNSCHEDULED, KILLED],
            Observation(present=2, reason="OOMKilled, exit code 137", is_broken=True),
        ),
        (
            {"status": {"conditions": [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}]}},
            [],
            Observation(reason="exceeded quota", is_broken=True),
        ),
    ],
)
def test_what_is_wrong_is_said_in_the_clusters_words(
    deployment: dict[str, Any] | None, pods: list[dict[str, Any]], expected: Observation
) -> None:
    assert observation(deployment, pods, "http://10.0.0.1:80") == expected
