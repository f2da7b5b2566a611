"""Environment, resources, names, security: what a container is configured with."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from proa.kubelet.admit import rejection
from proa.kubelet.cgroups import pod_limits
from proa.kubelet.configs import (
    NodeSettings,
    check_non_root,
    container_config,
    dns_config,
    host_name,
    hosts_file,
    sandbox_config,
)
from proa.kubelet.cri.types import Image
from proa.kubelet.environment import ConfigError, NodeFacts, environment, expand, resource_value, service_variables
from proa.kubelet.images import _NAME, _must_pull, credentials
from proa.kubelet.podspec import by_kind, qos_class
from proa.kubelet.resources import linux_resources, pod_requests
from proa.kubelet.run import read_resolv_conf

from .shapes import pod

NODE = NodeFacts(name="n1", host_ips=("192.168.1.2",), allocatable={"cpu": "4", "memory": "8Gi"})
SETTINGS = NodeSettings(name="n1", cluster_dns=("10.96.0.10",), host_dns={"servers": ["1.1.1.1"], "searches": ["lan"]})
CONFIG = {"data": {"key": "value", "other": "x", "not=valid": "y"}}
SECRET = {"data": {"word": base64.b64encode(b"hush").decode()}}


def variables(container: dict[str, Any], of: dict[str, Any] | None = None, services: Any = ()) -> dict[str, str]:
    found = {("configmaps", "cm"): CONFIG, ("secrets", "s"): SECRET}
    return environment(
        of or pod(container),
        container,
        node=NODE,
        pod_ips=("10.0.0.5", "fd00::5"),
        services=services,
        lookup=lambda kind, name: found.get((kind, name)),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)", "1"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$(B)", "$(B)"),
        ("$A $", "$A $"),
        ("x$(A)y$(A)", "x1y1"),
        ("$(", "$("),
    ],
)
def test_expansion(text: str, expected: str) -> None:
    assert expand(text, {"A": "1"}) == expected


def test_variables_in_order_with_references() -> None:
    container = {
        "name": "a",
        "envFrom": [{"configMapRef": {"name": "cm"}, "prefix": "P_"}, {"secretRef": {"name": "s"}}],
        "env": [
            {"name": "ONE", "value": "1"},
            {"name": "TWO", "value": "$(ONE)$(P_key)$(THREE)"},
            {"name": "THREE", "value": "3"},
            {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "other"}}},
            {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "word"}}},
            {"name": "O", "valueFrom": {"secretKeyRef": {"name": "none", "key": "word", "optional": True}}},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}},
            {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
        ],
    }
    found = variables(container, pod(container, meta={"labels": {"app": "shop"}}))
    assert found == {
        "P_key": "value",
        "P_other": "x",
        "word": "hush",
        "ONE": "1",
        "TWO": "1value$(THREE)",
        "THREE": "3",
        "C": "x",
        "S": "hush",
        "IP": "10.0.0.5",
        "IPS": "10.0.0.5,fd00::5",
        "LABEL": "shop",
    }


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"configMapKeyRef": {"name": "none", "key": "x"}}, 'configmap "none" not found'),
        ({"configMapKeyRef": {"name": "cm", "key": "x"}}, "couldn't find key x in ConfigMap default/cm"),
        ({"fieldRef": {"fieldPath": "spec.nothing"}}, "unsupported fieldPath: spec.nothing"),
    ],
)
def test_references_that_lead_nowhere(source: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        variables({"name": "a", "env": [{"name": "X", "valueFrom": source}]})


@pytest.mark.parametrize(
    ("resource", "divisor", "value"),
    [
        ("limits.cpu", None, "1"),
        ("limits.cpu", "1m", "250"),
        ("requests.memory", "1Mi", "64"),
        ("limits.memory", "1Gi", "8"),
        ("requests.cpu", "1m", "0"),
    ],
)
def test_resources_as_values(resource: str, divisor: str | None, value: str) -> None:
    container = {"name": "a", "resources": {"limits": {"cpu": "250m"}, "requests": {"memory": "64Mi"}}}
    assert resource_value(pod(container), container, {"resource": resource, "divisor": divisor}, NODE) == value


def test_service_variables() -> None:
    port = {"port": 80, "name": "web-ui", "protocol": "TCP"}
    service = {
        "metadata": {"name": "my-shop", "namespace": "default"},
        "spec": {"clusterIP": "10.96.0.9", "ports": [port]},
    }
    elsewhere = {**service, "metadata": {"name": "other", "namespace": "kube-system"}}
    headless = {**service, "metadata": {"name": "none", "namespace": "default"}, "spec": {"clusterIP": "None"}}
    found = service_variables(pod("a"), [service, elsewhere, headless])
    assert found == {
        "MY_SHOP_SERVICE_HOST": "10.96.0.9",
        "MY_SHOP_SERVICE_PORT": "80",
        "MY_SHOP_SERVICE_PORT_WEB_UI": "80",
        "MY_SHOP_PORT": "tcp://10.96.0.9:80",
        "MY_SHOP_PORT_80_TCP": "tcp://10.96.0.9:80",
        "MY_SHOP_PORT_80_TCP_PROTO": "tcp",
        "MY_SHOP_PORT_80_TCP_PORT": "80",
        "MY_SHOP_PORT_80_TCP_ADDR": "10.96.0.9",
    }
    assert service_variables(pod("a", enableServiceLinks=False), [service]) == {}


@pytest.mark.parametrize(
    ("requests", "limits", "quality"),
    [
        ({}, {}, "BestEffort"),
        ({"cpu": "1"}, {}, "Burstable"),
        ({}, {"cpu": "1", "memory": "1Gi"}, "Guaranteed"),
        ({"cpu": "1"}, {"cpu": "2", "memory": "1Gi"}, "Burstable"),
    ],
)
def test_quality_of_service(requests: Any, limits: Any, quality: str) -> None:
    assert qos_class(pod({"name": "a", "resources": {"requests": requests, "limits": limits}})) == quality


def test_cgroup_values() -> None:
    resources = {"requests": {"cpu": "100m", "memory": "2Gi"}, "limits": {"cpu": "500m", "memory": "4Gi"}}
    of = pod({"name": "a", "resources": resources})
    (container,) = by_kind(of, "main")
    assert linux_resources(of, container, 8 * 2**30) == {
        "cpu_shares": 102,
        "cpu_period": 100_000,
        "cpu_quota": 50_000,
        "memory_limit_in_bytes": 4 * 2**30,
        "oom_score_adj": 750,
    }
    plain = pod("a")
    assert linux_resources(plain, by_kind(plain, "main")[0], 2**30) == {"cpu_shares": 2, "oom_score_adj": 1000}


def test_what_a_pod_asks_for_as_a_whole() -> None:
    def asks(cpu: str) -> dict[str, Any]:
        return {"requests": {"cpu": cpu}}

    of = pod(
        {"name": "a", "resources": asks("100m")},
        initContainers=[
            {"name": "big", "resources": asks("1")},
            {"name": "side", "restartPolicy": "Always", "resources": asks("200m")},
        ],
    )
    assert pod_requests(of)["cpu"] == 1000
    of["spec"]["containers"][0]["resources"] = asks("900m")
    assert pod_requests(of)["cpu"] == 1100


def test_names_and_hosts() -> None:
    assert host_name(pod("a"), "n1") == "web"
    assert host_name(pod("a", hostname="h"), "n1") == "h"
    assert host_name(pod("a", hostNetwork=True), "n1") == "n1"
    text = hosts_file(
        pod("a", hostname="h", subdomain="s", hostAliases=[{"ip": "1.2.3.4", "hostnames": ["x", "y"]}]),
        ["10.0.0.5"],
        SETTINGS,
    )
    assert text.startswith("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n")
    assert "10.0.0.5\th.s.default.svc.cluster.local\th\n" in text
    assert text.endswith("# Entries added by HostAliases.\n1.2.3.4\tx\ty\n")


@pytest.mark.parametrize(
    ("spec", "servers", "searches"),
    [
        ({}, ["10.96.0.10"], ["default.svc.cluster.local", "svc.cluster.local", "cluster.local", "lan"]),
        ({"hostNetwork": True}, ["1.1.1.1"], ["lan"]),
        ({"dnsPolicy": "Default"}, ["1.1.1.1"], ["lan"]),
        ({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["9.9.9.9"], "searches": ["x"]}}, ["9.9.9.9"], ["x"]),
    ],
)
def test_dns_policies(spec: dict[str, Any], servers: list[str], searches: list[str]) -> None:
    found = dns_config(pod("a", **spec), SETTINGS)
    assert (found["servers"], found["searches"]) == (servers, searches)


def test_dns_options_of_the_pod_win() -> None:
    options = [{"name": "ndots", "value": "2"}, {"name": "edns0"}]
    assert dns_config(pod("a", dnsConfig={"options": options}), SETTINGS)["options"] == ["ndots:2", "edns0"]


def test_resolv_conf() -> None:
    text = "# x\nnameserver 1.1.1.1\nsearch a.b c.\noptions ndots:1 rotate\n"
    assert read_resolv_conf(text) == {
        "servers": ["1.1.1.1"],
        "searches": ["a.b", "c"],
        "options": ["ndots:1", "rotate"],
    }


def test_security_of_the_container_over_that_of_the_pod() -> None:
    of = pod(
        {
            "name": "a",
            "securityContext": {"runAsUser": 5, "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True},
        },
        securityContext={"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3, "supplementalGroups": [4]},
        hostPID=True,
    )
    config = container_config(
        of,
        by_kind(of, "main")[0],
        attempt=2,
        step=1,
        image="sha256:1",
        variables={"A": "1"},
        mounts=[],
        settings=SETTINGS,
    )
    security = config["linux"]["security_context"]
    assert security["run_as_user"] == {"value": 5}
    assert security["run_as_group"] == {"value": 2}
    assert security["supplemental_groups"] == [4, 3]
    assert security["no_new_privs"]
    assert security["readonly_rootfs"]
    assert security["namespace_options"]["pid"] == "NODE"
    assert "/proc/kcore" in security["masked_paths"]
    assert config["log_path"] == "a/2.log"
    assert config["envs"] == [{"key": "A", "value": b"1"}]


def test_a_privileged_container_sees_all() -> None:
    of = pod({"name": "a", "securityContext": {"privileged": True}})
    config = container_config(
        of, by_kind(of, "main")[0], attempt=0, step=0, image="i", variables={}, mounts=[], settings=SETTINGS
    )
    assert config["linux"]["security_context"]["privileged"]
    assert "masked_paths" not in config["linux"]["security_context"]
    assert sandbox_config(of, 0, settings=SETTINGS, log_folder="/l", cgroup="/c")["linux"]["security_context"][
        "privileged"
    ]


@pytest.mark.parametrize(
    ("context", "image_user", "fine"),
    [
        ({}, None, True),
        ({"runAsNonRoot": True}, None, False),
        ({"runAsNonRoot": True}, 0, False),
        ({"runAsNonRoot": True}, "nginx", False),
        ({"runAsNonRoot": True}, 101, True),
        ({"runAsNonRoot": True, "runAsUser": 0}, 101, False),
        ({"runAsNonRoot": True, "runAsUser": 7}, None, True),
    ],
)
def test_run_as_non_root(context: dict[str, Any], image_user: int | str | None, fine: bool) -> None:
    of = pod("a", securityContext=context)
    if fine:
        check_non_root(of, of["spec"]["containers"][0], image_user)
    else:
        with pytest.raises(ConfigError):
            check_non_root(of, of["spec"]["containers"][0], image_user)


# ---------------------------------------------------------------- images


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("nginx", True),
        ("localhost:5000/a/b:v1", True),
        ("docker.io/library/nginx@sha256:" + "a" * 64, True),
        ("a__b/c.d-e:T_1", True),
        ("Nginx", False),
        ("nginx:", False),
        ("a//b", False),
        ("a b", False),
    ],
)
def test_image_names(name: str, valid: bool) -> None:
    assert bool(_NAME.match(name)) is valid


@pytest.mark.parametrize(
    ("policy", "name", "digests", "pulls"),
    [
        ("Always", "nginx", ("nginx@sha256:1",), True),
        ("Always", "nginx", (), False),  # loaded by hand: no registry has it
        ("IfNotPresent", "nginx", ("nginx@sha256:1",), False),
        (None, "nginx", ("nginx@sha256:1",), True),
        (None, "nginx:1.2", ("nginx@sha256:1",), False),
        (None, "host:5000/nginx", ("nginx@sha256:1",), True),
    ],
)
def test_pull_policies(policy: str | None, name: str, digests: tuple[str, ...], pulls: bool) -> None:
    image = Image(id="1", tags=(), digests=digests, size_bytes=1)
    assert _must_pull({"imagePullPolicy": policy}, name, image) is pulls


@pytest.mark.parametrize(
    ("registry", "image", "found"),
    [
        ("https://index.docker.io/v1/", "nginx", True),
        ("quay.io", "quay.io/a/b", True),
        ("quay.io", "nginx", False),
        ("quay.io/team", "quay.io/team/b", True),
        ("quay.io/team", "quay.io/teams/b", False),
        ("*.example.com", "a.example.com/x", True),
        ("*.example.com", "a.b.example.com/x", False),
    ],
)
def test_pull_credentials(registry: str, image: str, found: bool) -> None:
    auth = base64.b64encode(b"me:pass:word").decode()
    secret = {
        "data": {
            ".dockerconfigjson": base64.b64encode(f'{{"auths":{{"{registry}":{{"auth":"{auth}"}}}}}}'.encode()).decode()
        }
    }
    assert credentials(image, [secret]) == ([{"username": "me", "password": "pass:word"}] if found else [])


# ---------------------------------------------------------------- admission


def test_the_node_has_the_last_word() -> None:
    node = {
        "metadata": {"name": "n1", "labels": {"disk": "ssd"}},
        "status": {"allocatable": {"cpu": "1", "memory": "1Gi", "pods": "2"}},
    }
    big = pod({"name": "a", "resources": {"requests": {"cpu": "600m"}}})
    assert rejection(big, [], node) is None
    assert rejection(big, [big], node) == (
        "OutOfcpu",
        "Pod was rejected: Node didn't have enough resource: cpu, requested: 600, used: 600, capacity: 1000",
    )
    assert (rejection(pod("a"), [pod("b"), pod("c")], node) or ("",))[0] == "OutOfpods"
    assert (rejection(pod("a", nodeSelector={"disk": "hdd"}), [], node) or ("",))[0] == "NodeAffinity"
    strict = pod("a", securityContext={"supplementalGroupsPolicy": "Strict"})
    assert (rejection(strict, [], node) or ("",))[0] == "SupplementalGroupsPolicyNotSupported"
    able = {**node, "status": {**node["status"], "features": {"supplementalGroupsPolicy": True}}}
    assert rejection(strict, [], able) is None


def test_a_pods_own_limits_hold_its_overhead() -> None:
    limits = {"limits": {"cpu": "100m", "memory": "10Mi"}}
    overhead = {"cpu": "10m", "memory": "1Mi"}
    assert pod_limits(pod({"name": "a", "resources": limits}, overhead=overhead)) == {
        "cpu": 110,
        "memory": 11 * 1024**2,
    }
    assert pod_limits(pod({"name": "a", "resources": limits}, "b", overhead=overhead)) == {}
