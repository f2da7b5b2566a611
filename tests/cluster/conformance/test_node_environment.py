"""What a container finds in its environment and command line: values, references, expansion, the downward API."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.conformance.conftest import MERGE, Api
from tests.cluster.conformance.fleet import Fleet, Obj, container, launched, pod_of, shell
from tests.cluster.conformance.objects import config_map, core
from tests.cluster.conftest import RunningCluster, proa
from tests.cluster.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("restarting")]

ENTRYPOINT = "docker.io/library/entrypoint:latest"
# Any printable ASCII but "=" may begin a variable's name.
PREFIXES = ("prefix_", "1-", "$_", "a-b.", "#!&@ ", "/:;,")


@pytest.fixture(scope="module")
def entrypoint_image(cluster: RunningCluster) -> str:
    """An image that prints its entry point's and its own arguments."""
    options = ("--deb", "busybox-static", "--entrypoint", "/bin/echo from-image", "--cmd", "default arguments")
    proa("image", "build", "--load", *cluster.options, ENTRYPOINT, *options)
    return ENTRYPOINT


def secret(name: str, labels: dict[str, str] | None = None, **data: str) -> Obj:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "labels": labels or {}}, "data": encoded}


def from_field(name: str, path: str) -> Obj:
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def from_resource(name: str, resource: str) -> Obj:
    return {"name": name, "valueFrom": {"resourceFieldRef": {"resource": resource}}}


def of_image(name: str, **overrides: Any) -> Obj:
    """A pod of the image with its own entry point; `overrides` are the container's command and args."""
    made = container("main", image=ENTRYPOINT) | overrides
    if "command" not in overrides:
        del made["command"]
    return pod_of(name, made)


def printing(name: str, **fields: Any) -> Obj:
    """A pod that prints its environment, without a shell in between: shells drop names that they can't use."""
    return pod_of(name, container("main", "env", **fields))


def from_file(name: str, *keys: str) -> Obj:
    """A pod with these variables from a file that its init container writes."""
    write = "echo \"CONFIG_1='value one'\" >/data/config.env; echo \"CONFIG_2='two'\" >>/data/config.env"
    init = container("setup", "sh", "-c", write, volumeMounts=[{"name": "config", "mountPath": "/data"}])
    reference = {"volumeName": "config", "path": "config.env"}
    variables = [{"name": key, "valueFrom": {"fileKeyRef": {**reference, "key": key}}} for key in keys]
    volumes = [{"name": "config", "emptyDir": {}}]
    return pod_of(name, container("main", "env", env=variables), initContainers=[init], volumes=volumes)


def environment() -> list[Obj]:
    config_from = {"configMapKeyRef": {"name": "settings", "key": "data-1"}}
    secret_from = {"secretKeyRef": {"name": "hidden", "key": "data-1"}}
    prefixed = [{"prefix": one, "configMapRef": {"name": "settings"}} for one in PREFIXES]
    prefixed_secret = [{"prefix": one, "secretRef": {"name": "hidden"}} for one in PREFIXES]
    resources = {"requests": {"cpu": "250m", "memory": "32Mi"}, "limits": {"cpu": "1250m", "memory": "64Mi"}}
    of_container = [
        from_resource("CPU_LIMIT", "limits.cpu"),
        from_resource("MEMORY_LIMIT", "limits.memory"),
        from_resource("CPU_REQUEST", "requests.cpu"),
        from_resource("MEMORY_REQUEST", "requests.memory"),
    ]
    names = [from_field("POD_NAME", "metadata.name"), from_field("POD_NAMESPACE", "metadata.namespace")]
    return [
        config_map("settings", **{"data-1": "value-1", "data-2": "value-2"}),
        secret("hidden", **{"data-1": "value-1", "data-2": "value-2"}),
        printing("config-key", env=[{"name": "CONFIG_DATA_1", "valueFrom": config_from}]),
        printing("config-all", envFrom=[{"configMapRef": {"name": "settings"}}]),
        printing("config-prefixes", envFrom=prefixed),
        printing("secret-key", env=[{"name": "SECRET_DATA", "valueFrom": secret_from}]),
        printing("secret-all", envFrom=[{"secretRef": {"name": "hidden"}}]),
        printing("secret-prefixes", envFrom=prefixed_secret),
        printing("names", env=[*names, from_field("POD_IP", "status.podIP")]),
        printing("host-ip", env=[from_field("HOST_IP", "status.hostIP")]),
        printing("host-ips", env=[from_field("HOST_IPS", "status.hostIPs")]),
        printing("uid", env=[from_field("POD_UID", "metadata.uid")]),
        printing("limits", env=of_container, resources=resources),
        printing("no-limits", env=of_container[:2]),
        from_file("file-keys", "CONFIG_1", "CONFIG_2"),
        from_file("file-no-key", "CONFIG_3"),
        of_image("image-defaults"),
        of_image("image-args", args=["override", "arguments"]),
        of_image("image-command", command=["/bin/echo", "other"]),
        of_image("image-both", command=["/bin/echo", "other"], args=["override", "arguments"]),
    ]


def expansions() -> list[Obj]:
    composed = [
        {"name": "FOO", "value": "foo-value"},
        {"name": "BAR", "value": "bar-value"},
        {"name": "FOOBAR", "value": "$(FOO);;$(BAR)"},
    ]
    test = [{"name": "TEST_VAR", "value": "test-value"}]
    return [
        printing("composed", env=composed),
        shell("in-command", 'TEST_VAR=wrong echo "$(TEST_VAR)"', env=test),
        pod_of("in-args", container("main", "sh", "-c", args=['TEST_VAR=wrong echo "$(TEST_VAR)"'], env=test)),
        sub_path("in-subpath", "test -d /testcontainer/in-subpath; echo $?", "/testcontainer", pod_name="in-subpath"),
        sub_path("backticks", "true", "/testcontainer", pod_name=".."),
        sub_path("absolute", "true", "/testcontainer", pod_name="/tmp"),
        later("becomes-valid", {"notmysubpath": "mypath"}),
        later("written", {"mysubpath": "mypath"}),
    ]


def sub_path(name: str, script: str, whole: str, *, pod_name: str) -> Obj:
    mounts = [
        {"name": "work", "mountPath": "/logscontainer", "subPathExpr": "$(POD_NAME)"},
        {"name": "work", "mountPath": whole},
    ]
    variables = [{"name": "POD_NAME", "value": pod_name}]
    volumes = [{"name": "work", "emptyDir": {}}]
    return shell(name, script, env=variables, volumeMounts=mounts, pod={"volumes": volumes})


def later(name: str, annotations: dict[str, str]) -> Obj:
    """A pod whose sub-path is named by an annotation."""
    mounts = [
        {"name": "work", "mountPath": "/subpath_mount", "subPathExpr": "$(ANNOTATION)/$(POD_NAME)"},
        {"name": "work", "mountPath": "/volume_mount"},
    ]
    variables = [{"name": "POD_NAME", "value": "foo"}, from_field("ANNOTATION", "metadata.annotations['mysubpath']")]
    made = pod_of(
        name, container("main", env=variables, volumeMounts=mounts), volumes=[{"name": "work", "emptyDir": {}}]
    )
    made["metadata"]["annotations"] = annotations
    return made


@pytest.fixture(scope="module")
def fleet(cluster: RunningCluster, api: Api, entrypoint_image: str) -> Iterator[Fleet]:
    with launched(cluster, api, *environment(), *expansions()) as made:
        yield made


def variables(fleet: Fleet, name: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in fleet.output(name).splitlines() if "=" in line)


# ---------------------------------------------------------------- config maps and secrets


@pytest.mark.behaviour("[sig-node] ConfigMap should be consumable via environment variable")
def test_a_config_maps_key(fleet: Fleet) -> None:
    assert variables(fleet, "config-key")["CONFIG_DATA_1"] == "value-1"


@pytest.mark.behaviour("[sig-node] ConfigMap should be consumable via the environment")
def test_a_whole_config_map(fleet: Fleet) -> None:
    found = variables(fleet, "config-all")
    assert (found["data-1"], found["data-2"]) == ("value-1", "value-2")


@pytest.mark.behaviour(
    "[sig-node] ConfigMap should be consumable as environment variable names with various prefixes",
    "[sig-node] Secrets should be consumable as environment variable names variable names with various prefixes",
)
@pytest.mark.parametrize("name", ["config-prefixes", "secret-prefixes"])
def test_prefixes(fleet: Fleet, name: str) -> None:
    found = variables(fleet, name)
    for prefix in PREFIXES:
        assert (found[f"{prefix}data-1"], found[f"{prefix}data-2"]) == ("value-1", "value-2"), prefix


@pytest.mark.behaviour("[sig-node] Secrets should be consumable from pods in env vars")
def test_a_secrets_key(fleet: Fleet) -> None:
    assert variables(fleet, "secret-key")["SECRET_DATA"] == "value-1"


@pytest.mark.behaviour("[sig-node] Secrets should be consumable via the environment")
def test_a_whole_secret(fleet: Fleet) -> None:
    found = variables(fleet, "secret-all")
    assert (found["data-1"], found["data-2"]) == ("value-1", "value-2")


@pytest.mark.behaviour(
    "[sig-node] ConfigMap should fail to create ConfigMap with empty key",
    "[sig-node] Secrets should fail to create secret due to empty secret key",
)
@pytest.mark.parametrize("plural", ["configmaps", "secrets"])
def test_an_empty_key_is_refused(api: Api, namespace: str, plural: str) -> None:
    body = {"metadata": {"name": "empty-key"}, "data": {"": base64.b64encode(b"value-1").decode()}}
    refused = api.post(core(namespace, plural), body).failed(422, "Invalid")
    assert "data[]" in refused["message"]
    assert {one["reason"] for one in refused["details"]["causes"]} == {"FieldValueInvalid"}
    api.get(core(namespace, plural, "empty-key")).failed(404, "NotFound")


@pytest.mark.behaviour("[sig-node] ConfigMap should update ConfigMap successfully")
def test_update_a_config_map(api: Api, namespace: str) -> None:
    path = core(namespace, "configmaps")
    made = api.post(path, config_map("changing", data="value")).ok()
    made["data"] = {"data": "value-2"}
    api.put(f"{path}/changing", made).ok()
    assert api.get(f"{path}/changing").ok()["data"] == {"data": "value-2"}


@pytest.mark.behaviour(
    "[sig-node] ConfigMap should run through a ConfigMap lifecycle", "[sig-node] Secrets should patch a secret"
)
@pytest.mark.parametrize("plural", ["configmaps", "secrets"])
def test_lifecycle(api: Api, namespace: str, plural: str) -> None:
    """Creates, watches, patches, gets, finds in all namespaces by label, and deletes by collection."""
    label = f"test-{uuid.uuid4().hex[:8]}"
    selector = f"?labelSelector=test-static%3D{label}"
    path = core(namespace, plural)
    old, new = (base64.b64encode(text).decode() for text in (b"value", b"changed"))
    assert api.get(path + selector).ok()["items"] == []
    start = api.get(path + selector).ok()["metadata"]["resourceVersion"]
    with api.watch(f"{path}{selector}&resourceVersion={start}") as events:
        api.post(path, {"metadata": {"name": "one", "labels": {"test-static": label}}, "data": {"key": old}}).ok()
        assert next(events)["type"] == "ADDED"
        change = {"metadata": {"labels": {"test": "patched"}}, "data": {"key": new}}
        api.patch(f"{path}/one", change, MERGE).ok()
        event = next(events)
        assert (event["type"], event["object"]["data"]) == ("MODIFIED", {"key": new})
        found = api.get(f"{path}/one").ok()
        assert found["data"] == {"key": new} and found["metadata"]["labels"]["test"] == "patched"
        (listed,) = api.get(f"/api/v1/{plural}{selector}").ok()["items"]
        assert listed["metadata"]["labels"]["test"] == "patched" and listed["data"] == {"key": new}
        api.delete(path + selector).ok()
        assert next(events)["type"] == "DELETED"
    assert api.get(f"/api/v1/{plural}{selector}").ok()["items"] == []


def test_keys_of_a_file(api: Api, fleet: Fleet) -> None:
    found = variables(fleet, "file-keys")
    assert (found["CONFIG_1"], found["CONFIG_2"]) == ("value one", "two")
    pod = fleet.until("file-no-key", lambda pod: waiting_for(pod) == "CreateContainerConfigError", what="not refused")
    message = pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"]
    assert message == 'environment variable key "CONFIG_3" not found in file "config.env"'
    for volume, reason in (
        ({"name": "other", "emptyDir": {}}, "FieldValueNotFound"),
        (
            {"name": "config", "configMap": {"name": "settings"}},
            "FieldValueInvalid",
        ),
    ):
        made = from_file("refused", "CONFIG_1")
        made["spec"]["volumes"] = [volume]
        del made["spec"]["initContainers"]
        refused = api.post(core(fleet.namespace, "pods"), made).failed(422, "Invalid")
        (cause,) = refused["details"]["causes"]
        assert (cause["reason"], cause["field"]) == (
            reason,
            "spec.containers[0].env[0].valueFrom.fileKeyRef.volumeName",
        )


# ---------------------------------------------------------------- command and arguments


@pytest.mark.behaviour(
    "[sig-node] Containers should use the image defaults if command and args are blank",
    "[sig-node] Containers should be able to override the image's default arguments (container cmd)",
    "[sig-node] Containers should be able to override the image's default command (container entrypoint)",
    "[sig-node] Containers should be able to override the image's default command and arguments",
)
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("image-defaults", "from-image default arguments"),
        ("image-args", "from-image override arguments"),
        ("image-command", "other"),
        ("image-both", "other override arguments"),
    ],
)
def test_command_and_arguments(fleet: Fleet, name: str, said: str) -> None:
    assert fleet.output(name).strip() == said


# ---------------------------------------------------------------- downward API


@pytest.mark.behaviour("[sig-node] Downward API should provide pod name, namespace and IP address as env vars")
def test_names_and_address(fleet: Fleet) -> None:
    found = variables(fleet, "names")
    status = fleet.status("names")
    assert (found["POD_NAME"], found["POD_NAMESPACE"]) == ("names", fleet.namespace)
    assert found["POD_IP"] == status["podIP"] == status["podIPs"][0]["ip"]


@pytest.mark.behaviour("[sig-node] Downward API should provide host IP as an env var")
def test_host_ip(fleet: Fleet) -> None:
    assert variables(fleet, "host-ip")["HOST_IP"] == fleet.status("host-ip")["hostIP"]


@pytest.mark.behaviour("[sig-node] Downward API should provide hostIPs as an env var")
def test_host_ips(fleet: Fleet) -> None:
    found = variables(fleet, "host-ips")["HOST_IPS"].split(",")
    assert found == [one["ip"] for one in fleet.status("host-ips")["hostIPs"]]


@pytest.mark.behaviour("[sig-node] Downward API should provide pod UID as env vars")
def test_uid(fleet: Fleet) -> None:
    assert variables(fleet, "uid")["POD_UID"] == fleet.get("uid")["metadata"]["uid"]


@pytest.mark.behaviour(
    "[sig-node] Downward API should provide container's limits.cpu/memory and requests.cpu/memory as env vars"
)
def test_limits_and_requests(fleet: Fleet) -> None:
    found = variables(fleet, "limits")
    assert (found["CPU_LIMIT"], found["MEMORY_LIMIT"]) == ("2", "67108864")
    assert (found["CPU_REQUEST"], found["MEMORY_REQUEST"]) == ("1", "33554432")


@pytest.mark.behaviour("[sig-node] Downward API should provide default limits.cpu/memory from node allocatable")
def test_limits_default_to_allocatable(api: Api, fleet: Fleet) -> None:
    found = variables(fleet, "no-limits")
    node = api.get(f"/api/v1/nodes/{fleet.get('no-limits')['spec']['nodeName']}").ok()
    allocatable = node["status"]["allocatable"]
    assert found["CPU_LIMIT"] == allocatable["cpu"]
    assert int(found["MEMORY_LIMIT"]) == 1024 * int(allocatable["memory"].removesuffix("Ki"))


# ---------------------------------------------------------------- expansion


@pytest.mark.behaviour("[sig-node] Variable Expansion should allow composing env vars into new env vars")
def test_composed_variables(fleet: Fleet) -> None:
    found = variables(fleet, "composed")
    assert (found["FOO"], found["BAR"], found["FOOBAR"]) == ("foo-value", "bar-value", "foo-value;;bar-value")


@pytest.mark.behaviour(
    "[sig-node] Variable Expansion should allow substituting values in a container's command",
    "[sig-node] Variable Expansion should allow substituting values in a container's args",
)
@pytest.mark.parametrize("name", ["in-command", "in-args"])
def test_expansion_in_command_and_args(fleet: Fleet, name: str) -> None:
    assert fleet.output(name).strip() == "test-value"


@pytest.mark.behaviour("[sig-node] Variable Expansion should allow substituting values in a volume subpath")
def test_expansion_in_a_sub_path(fleet: Fleet) -> None:
    assert fleet.output("in-subpath").strip() == "0"


@pytest.mark.behaviour(
    "[sig-node] Variable Expansion should fail substituting values in a volume subpath with backticks",
    "[sig-node] Variable Expansion should fail substituting values in a volume subpath with absolute path",
)
@pytest.mark.parametrize("name", ["backticks", "absolute"])
def test_sub_paths_out_of_the_volume_are_refused(fleet: Fleet, name: str) -> None:
    pod = fleet.until(name, lambda pod: waiting_for(pod) == "CreateContainerConfigError", what="not refused")
    assert pod["status"]["phase"] == "Pending"


def waiting_for(pod: Obj) -> str:
    listed = pod["status"].get("containerStatuses") or [{}]
    return str((listed[0].get("state") or {}).get("waiting", {}).get("reason", ""))


def annotate(fleet: Fleet, name: str, **annotations: str) -> None:
    fleet.api.patch(fleet.path(name), {"metadata": {"annotations": annotations}}).ok()


@pytest.mark.behaviour(
    "[sig-node] Variable Expansion should verify that a failing subpath expansion can be modified during the lifecycle "
    "of a container [Slow]"
)
def test_a_sub_path_may_become_valid(fleet: Fleet) -> None:
    fleet.until("becomes-valid", lambda pod: waiting_for(pod) == "CreateContainerConfigError", what="not refused")
    annotate(fleet, "becomes-valid", mysubpath="mypath")
    fleet.ready("becomes-valid")
    assert "foo" in fleet.run("becomes-valid", "ls /volume_mount/mypath")
    fleet.delete("becomes-valid")


@pytest.mark.behaviour("[sig-node] Variable Expansion should succeed in writing subpaths in container")
def test_writing_through_a_sub_path(fleet: Fleet) -> None:
    """What is written through the volume shows in the sub-path; the mount outlives the annotation that named it."""
    fleet.ready("written")
    fleet.run("written", "touch /volume_mount/mypath/foo/test.log")
    fleet.run("written", "test -f /subpath_mount/test.log")
    annotate(fleet, "written", mysubpath="mynewpath")
    eventually(lambda: fleet.get("written")["metadata"]["annotations"]["mysubpath"] == "mynewpath")
    fleet.run("written", "touch /subpath_mount/after.log && test -f /volume_mount/mypath/foo/after.log")
    assert fleet.container("written")["restartCount"] == 0
    fleet.delete("written")
