"""ConfigMaps, secrets, the downward API and projections of them as files: content, paths, modes, and their changes."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from proa.meta.quantity import parse
from tests.cluster.conformance.conftest import Api
from tests.cluster.conformance.files import (
    SHOW,
    Case,
    Show,
    Shown,
    config_map,
    container,
    pod,
    pods_for,
    secret,
    show,
    text,
)
from tests.cluster.conformance.objects import core
from tests.cluster.conftest import RunningCluster
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster
mark = pytest.mark

DATA = {"data-1": "value-1", "data-2": "value-2", "data-3": "value-3"}
ALL = {key: text(value) for key, value in DATA.items()}
BINARY = bytes((0xDE, 0xCA, 0xFE, 0xBA, 0xD0, 0xFE, 0xFF))
OWN_ONLY, GROUP_TOO = "-r--------", "-r--r-----"
MAPPED = [{"key": "data-2", "path": "path/to/data-2"}]
MAPPED_400 = [{**MAPPED[0], "mode": 0o400}]


def configs(name: str = "config", **source: Any) -> dict[str, Any]:
    return {"configMap": {"name": name, **source}}


def secrets(name: str = "secret", **source: Any) -> dict[str, Any]:
    return {"secret": {"secretName": name, **source}}


def projected(kind: str, mode: int | None = None, name: str = "", **source: Any) -> dict[str, Any]:
    """`kind` is configMap or secret."""
    name = name or {"configMap": "config", "secret": "secret"}[kind]
    whole: dict[str, Any] = {"sources": [{kind: {"name": name, **source}}]}
    return {"projected": whole | ({} if mode is None else {"defaultMode": mode})}


def files(volume: str, found: dict[str, Shown] = ALL, mode: str = "") -> dict[str, Shown]:
    return {f"{volume}/{path}": Shown(mode or one.mode, one.data) for path, one in found.items()}


def mapped(volume: str, mode: str = "-rw-r--r--") -> dict[str, Shown]:
    return {f"{volume}/path/to/data-2": text("value-2", mode)}


def one(name: str, source: dict[str, Any], found: dict[str, Shown], **who: int) -> Case:
    return Case({name: source}, found, **who)


def two(name: str, source: dict[str, Any]) -> Case:
    volumes = [f"{name}-{number}" for number in (1, 2)]
    return Case(dict.fromkeys(volumes, source), files(volumes[0]) | files(volumes[1]))


CASES = [
    # ------------------------------------------------------------ config maps
    pytest.param(
        one("cm", configs(), files("cm")),
        marks=mark.behaviour("[sig-storage] ConfigMap should be consumable from pods in volume"),
    ),
    pytest.param(
        one("cm-user", configs(), files("cm-user"), user=1000),
        marks=mark.behaviour("[sig-storage] ConfigMap should be consumable from pods in volume as non-root"),
    ),
    pytest.param(
        one("cm-mode", configs(defaultMode=0o400), files("cm-mode", mode=OWN_ONLY)),
        marks=mark.behaviour(
            "[sig-storage] ConfigMap should be consumable from pods in volume with defaultMode set [LinuxOnly]"
        ),
    ),
    pytest.param(
        one("cm-map", configs(items=MAPPED), mapped("cm-map")),
        marks=mark.behaviour("[sig-storage] ConfigMap should be consumable from pods in volume with mappings"),
    ),
    pytest.param(
        one("cm-map-mode", configs(items=MAPPED_400), mapped("cm-map-mode", OWN_ONLY)),
        marks=mark.behaviour(
            "[sig-storage] ConfigMap should be consumable from pods in volume with mappings and Item mode set "
            "[LinuxOnly]"
        ),
    ),
    pytest.param(
        one("cm-map-user", configs(items=MAPPED), mapped("cm-map-user"), user=1000),
        marks=mark.behaviour(
            "[sig-storage] ConfigMap should be consumable from pods in volume with mappings as non-root"
        ),
    ),
    pytest.param(
        two("cm-two", configs()),
        marks=mark.behaviour("[sig-storage] ConfigMap should be consumable in multiple volumes in the same pod"),
    ),
    pytest.param(
        one(
            "cm-binary",
            configs("binary"),
            {"cm-binary/data-1": text("value-1"), "cm-binary/dump.bin": Shown("-rw-r--r--", BINARY)},
        ),
        marks=mark.behaviour("[sig-storage] ConfigMap binary data should be reflected in volume"),
    ),
    # ------------------------------------------------------------ secrets
    pytest.param(
        one("s", secrets(), files("s")),
        marks=mark.behaviour("[sig-storage] Secrets should be consumable from pods in volume"),
    ),
    pytest.param(
        one("s-other", secrets("shared"), {"s-other/data-1": text("mine")}),
        marks=mark.behaviour(
            "[sig-storage] Secrets should be able to mount in a volume regardless of a different secret existing "
            "with same name in different namespace"
        ),
    ),
    pytest.param(
        one("s-group", secrets(defaultMode=0o440), files("s-group", mode=GROUP_TOO), user=1000, group=1001),
        marks=mark.behaviour(
            "[sig-storage] Secrets should be consumable from pods in volume as non-root with defaultMode and fsGroup "
            "set [LinuxOnly]"
        ),
    ),
    pytest.param(
        one("s-mode", secrets(defaultMode=0o400), files("s-mode", mode=OWN_ONLY)),
        marks=mark.behaviour(
            "[sig-storage] Secrets should be consumable from pods in volume with defaultMode set [LinuxOnly]"
        ),
    ),
    pytest.param(
        one("s-map", secrets(items=MAPPED), mapped("s-map")),
        marks=mark.behaviour("[sig-storage] Secrets should be consumable from pods in volume with mappings"),
    ),
    pytest.param(
        one("s-map-mode", secrets(items=MAPPED_400), mapped("s-map-mode", OWN_ONLY)),
        marks=mark.behaviour(
            "[sig-storage] Secrets should be consumable from pods in volume with mappings and Item Mode set [LinuxOnly]"
        ),
    ),
    pytest.param(
        two("s-two", secrets()),
        marks=mark.behaviour("[sig-storage] Secrets should be consumable in multiple volumes in a pod"),
    ),
    # ------------------------------------------------------------ projected config maps
    pytest.param(
        one("pcm", projected("configMap"), files("pcm")),
        marks=mark.behaviour("[sig-storage] Projected configMap should be consumable from pods in volume"),
    ),
    pytest.param(
        one("pcm-user", projected("configMap"), files("pcm-user"), user=1000),
        marks=mark.behaviour("[sig-storage] Projected configMap should be consumable from pods in volume as non-root"),
    ),
    pytest.param(
        one("pcm-mode", projected("configMap", 0o400), files("pcm-mode", mode=OWN_ONLY)),
        marks=mark.behaviour(
            "[sig-storage] Projected configMap should be consumable from pods in volume with defaultMode set "
            "[LinuxOnly]"
        ),
    ),
    pytest.param(
        one("pcm-map", projected("configMap", items=MAPPED), mapped("pcm-map")),
        marks=mark.behaviour(
            "[sig-storage] Projected configMap should be consumable from pods in volume with mappings"
        ),
    ),
    pytest.param(
        one("pcm-map-mode", projected("configMap", items=MAPPED_400), mapped("pcm-map-mode", OWN_ONLY)),
        marks=mark.behaviour(
            "[sig-storage] Projected configMap should be consumable from pods in volume with mappings and Item mode "
            "set [LinuxOnly]"
        ),
    ),
    pytest.param(
        one("pcm-map-user", projected("configMap", items=MAPPED), mapped("pcm-map-user"), user=1000),
        marks=mark.behaviour(
            "[sig-storage] Projected configMap should be consumable from pods in volume with mappings as non-root"
        ),
    ),
    pytest.param(
        two("pcm-two", projected("configMap")),
        marks=mark.behaviour(
            "[sig-storage] Projected configMap should be consumable in multiple volumes in the same pod"
        ),
    ),
    # ------------------------------------------------------------ projected secrets
    pytest.param(
        one("ps", projected("secret"), files("ps")),
        marks=mark.behaviour("[sig-storage] Projected secret should be consumable from pods in volume"),
    ),
    pytest.param(
        one("ps-group", projected("secret", 0o440), files("ps-group", mode=GROUP_TOO), user=1000, group=1001),
        marks=mark.behaviour(
            "[sig-storage] Projected secret should be consumable from pods in volume as non-root with defaultMode and "
            "fsGroup set [LinuxOnly]"
        ),
    ),
    pytest.param(
        one("ps-mode", projected("secret", 0o400), files("ps-mode", mode=OWN_ONLY)),
        marks=mark.behaviour(
            "[sig-storage] Projected secret should be consumable from pods in volume with defaultMode set [LinuxOnly]"
        ),
    ),
    pytest.param(
        one("ps-map", projected("secret", items=MAPPED), mapped("ps-map")),
        marks=mark.behaviour("[sig-storage] Projected secret should be consumable from pods in volume with mappings"),
    ),
    pytest.param(
        one("ps-map-mode", projected("secret", items=MAPPED_400), mapped("ps-map-mode", OWN_ONLY)),
        marks=mark.behaviour(
            "[sig-storage] Projected secret should be consumable from pods in volume with mappings and Item Mode set "
            "[LinuxOnly]"
        ),
    ),
    pytest.param(
        two("ps-two", projected("secret")),
        marks=mark.behaviour("[sig-storage] Projected secret should be consumable in multiple volumes in a pod"),
    ),
]


# ---------------------------------------------------------------- the downward API

SIZED, PLAIN = "sized", "plain"
AMOUNTS = {"limits": {"cpu": "1250m", "memory": "64Mi"}, "requests": {"cpu": "250m", "memory": "32Mi"}}


def field(path: str, of: str, **more: Any) -> dict[str, Any]:
    return {"path": path, "fieldRef": {"fieldPath": of}, **more}


def amount(path: str, resource: str, container: str = SIZED) -> dict[str, Any]:
    return {"path": path, "resourceFieldRef": {"containerName": container, "resource": resource}}


ITEMS = [
    field("podname", "metadata.name"),
    field("item-400", "metadata.name", mode=0o400),
    *(amount(one, one) for one in ("limits.cpu", "limits.memory", "requests.cpu", "requests.memory")),
    amount("node.cpu", "limits.cpu", PLAIN),
    amount("node.memory", "limits.memory", PLAIN),
]
DOWNWARD = {
    "downward": {"downwardAPI": {"items": ITEMS}},
    "projected": {"projected": {"sources": [{"downwardAPI": {"items": ITEMS}}]}},
}
NAMED_400 = [field("podname", "metadata.name")]
DOWNWARD_400 = {
    "downward-400": {"downwardAPI": {"items": NAMED_400, "defaultMode": 0o400}},
    "projected-400": {"projected": {"sources": [{"downwardAPI": {"items": NAMED_400}}], "defaultMode": 0o400}},
}
COMBINED = {
    "combined": {
        "projected": {
            "sources": [
                {"configMap": {"name": "config", "items": [{"key": "data-1", "path": "cm"}]}},
                {"secret": {"name": "secret", "items": [{"key": "data-2", "path": "s"}]}},
                {"downwardAPI": {"items": ITEMS}},
            ]
        }
    }
}
AMOUNTS_SHOWN = {"limits.cpu": "2", "limits.memory": "67108864", "requests.cpu": "1", "requests.memory": "33554432"}


def downward_pod() -> dict[str, Any]:
    volumes = {**DOWNWARD, **DOWNWARD_400, **COMBINED}
    mounts = {name: f"/v/{name}" for name in volumes}
    made = [container(SIZED, SHOW, mounts, resources=AMOUNTS), container(PLAIN, "true", {})]
    return pod("downward", made, volumes)


def shown_downward(shown: Show, file: str) -> Shown:
    for line in shown.log("downward", SIZED).splitlines():
        path, mode, content = line.split(" ")
        if path == f"/v/{file}":
            return Shown(mode, base64.b64decode(content))
    raise AssertionError(f"{file} is not there")


# ---------------------------------------------------------------- files that change

KINDS = ("configMap", "projected configMap", "secret", "projected secret")


def source_of(kind: str, name: str, optional: bool = False) -> dict[str, Any]:
    more = {"optional": True} if optional else {}
    if kind.startswith("projected"):
        return projected(kind.split()[1], name=name, **more)
    return configs(name, **more) if kind == "configMap" else secrets(name, **more)


def slug(kind: str) -> str:
    return kind.lower().replace(" ", "-")


def source_object(kind: str, name: str, **data: str) -> dict[str, Any]:
    return config_map(name, **data) if kind.endswith("configMap") else secret(name, **data)


def live_manifests() -> list[dict[str, Any]]:
    """A pod that runs on, and the sources of its volumes."""
    volumes: dict[str, dict[str, Any]] = {}
    made = []
    for kind in KINDS:
        made += [source_object(kind, f"{slug(kind)}-{fate}", **{"data-1": "value-1"}) for fate in ("update", "delete")]
        for fate in ("create", "update", "delete"):
            name = f"{slug(kind)}-{fate}"
            volumes[name] = source_of(kind, name, optional=True)
        if kind.endswith("configMap"):
            made.append(config_map(f"{slug(kind)}-plain", **{"data-1": "value-1"}))
            volumes[f"{slug(kind)}-plain"] = source_of(kind, f"{slug(kind)}-plain")
    items = [field("labels", "metadata.labels"), field("annotations", "metadata.annotations")]
    volumes["downward"] = {"downwardAPI": {"items": items}}
    volumes["projected-downward"] = {"projected": {"sources": [{"downwardAPI": {"items": items}}]}}
    script = "trap 'exit 0' TERM; while :; do sleep 1; done"
    running = pod("live", [container("c", script, {name: f"/v/{name}" for name in volumes})], volumes)
    running["metadata"]["labels"] |= {"key1": "value1", "key2": "value2"}
    running["metadata"]["annotations"] = {"builder": "bar"}
    return [*made, running]


@pytest.fixture(scope="module")
def shown(cluster: RunningCluster) -> Iterator[Show]:
    binary = config_map("binary", **{"data-1": "value-1"})
    binary["binaryData"] = {"dump.bin": base64.b64encode(BINARY).decode()}
    sources = [config_map("config", **DATA), secret("secret", **DATA), binary, secret("shared", **{"data-1": "mine"})]
    cases = [case.values[0] for case in CASES]
    with (
        show(cluster, secret("shared", **{"data-1": "another's"})),
        show(cluster, *sources, *pods_for(cases), downward_pod(), *live_manifests()) as made,
    ):
        yield made


@pytest.mark.parametrize("case", CASES)
def test_files_of_a_volume(shown: Show, case: Case) -> None:
    assert shown.files(case) == case.files


@pytest.mark.parametrize(
    ("file", "content"),
    [
        pytest.param(
            "downward/limits.cpu",
            "2",
            marks=mark.behaviour("[sig-storage] Downward API volume should provide container's cpu limit"),
        ),
        pytest.param(
            "downward/requests.cpu",
            "1",
            marks=mark.behaviour("[sig-storage] Downward API volume should provide container's cpu request"),
        ),
        pytest.param(
            "downward/limits.memory",
            "67108864",
            marks=mark.behaviour("[sig-storage] Downward API volume should provide container's memory limit"),
        ),
        pytest.param(
            "downward/requests.memory",
            "33554432",
            marks=mark.behaviour("[sig-storage] Downward API volume should provide container's memory request"),
        ),
        pytest.param(
            "downward/podname",
            "downward",
            marks=mark.behaviour("[sig-storage] Downward API volume should provide podname only"),
        ),
        pytest.param(
            "projected/limits.cpu",
            "2",
            marks=mark.behaviour("[sig-storage] Projected downwardAPI should provide container's cpu limit"),
        ),
        pytest.param(
            "projected/requests.cpu",
            "1",
            marks=mark.behaviour("[sig-storage] Projected downwardAPI should provide container's cpu request"),
        ),
        pytest.param(
            "projected/limits.memory",
            "67108864",
            marks=mark.behaviour("[sig-storage] Projected downwardAPI should provide container's memory limit"),
        ),
        pytest.param(
            "projected/requests.memory",
            "33554432",
            marks=mark.behaviour("[sig-storage] Projected downwardAPI should provide container's memory request"),
        ),
        pytest.param(
            "projected/podname",
            "downward",
            marks=mark.behaviour("[sig-storage] Projected downwardAPI should provide podname only"),
        ),
    ],
)
def test_what_the_downward_api_says(shown: Show, file: str, content: str) -> None:
    assert shown_downward(shown, file) == text(content)


@pytest.mark.parametrize(
    ("file", "resource"),
    [
        pytest.param(
            "downward/node.cpu",
            "cpu",
            marks=mark.behaviour(
                "[sig-storage] Downward API volume should provide node allocatable (cpu) as default cpu limit if the "
                "limit is not set"
            ),
        ),
        pytest.param(
            "downward/node.memory",
            "memory",
            marks=mark.behaviour(
                "[sig-storage] Downward API volume should provide node allocatable (memory) as default memory limit "
                "if the limit is not set"
            ),
        ),
        pytest.param(
            "projected/node.cpu",
            "cpu",
            marks=mark.behaviour(
                "[sig-storage] Projected downwardAPI should provide node allocatable (cpu) as default cpu limit if "
                "the limit is not set"
            ),
        ),
        pytest.param(
            "projected/node.memory",
            "memory",
            marks=mark.behaviour(
                "[sig-storage] Projected downwardAPI should provide node allocatable (memory) as default memory limit "
                "if the limit is not set"
            ),
        ),
    ],
)
def test_a_limit_that_is_not_set_is_the_nodes(shown: Show, api: Api, file: str, resource: str) -> None:
    found = shown_downward(shown, file)
    node = api.get(core(shown.namespace, "pods", "downward")).ok()["spec"]["nodeName"]
    allocatable = parse(api.get(f"/api/v1/nodes/{node}").ok()["status"]["allocatable"][resource])
    assert found.data.decode() == str(-(-allocatable.nano // 10**9))


@pytest.mark.parametrize(
    "file",
    [
        pytest.param(
            "downward-400/podname",
            marks=mark.behaviour("[sig-storage] Downward API volume should set DefaultMode on files [LinuxOnly]"),
        ),
        pytest.param(
            "downward/item-400",
            marks=mark.behaviour("[sig-storage] Downward API volume should set mode on item file [LinuxOnly]"),
        ),
        pytest.param(
            "projected-400/podname",
            marks=mark.behaviour("[sig-storage] Projected downwardAPI should set DefaultMode on files [LinuxOnly]"),
        ),
        pytest.param(
            "projected/item-400",
            marks=mark.behaviour("[sig-storage] Projected downwardAPI should set mode on item file [LinuxOnly]"),
        ),
    ],
)
def test_modes_of_the_downward_api(shown: Show, file: str) -> None:
    assert shown_downward(shown, file) == text("downward", OWN_ONLY)


@pytest.mark.behaviour(
    "[sig-storage] Projected combined should project all components that make up the projection API [Projection]"
)
def test_all_sources_in_one(shown: Show) -> None:
    wanted = {"cm": "value-1", "s": "value-2", "podname": "downward", **AMOUNTS_SHOWN}
    assert {name: shown_downward(shown, f"combined/{name}") for name in wanted} == {
        name: text(content) for name, content in wanted.items()
    }


def becomes(shown: Show, file: str, content: str) -> None:
    eventually(lambda: shown.read("live", f"/v/{file}") == content, what=f"{file} is {content!r}")


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(
            "configMap", marks=mark.behaviour("[sig-storage] ConfigMap updates should be reflected in volume")
        ),
        pytest.param(
            "projected configMap",
            marks=mark.behaviour("[sig-storage] Projected configMap updates should be reflected in volume"),
        ),
    ],
)
def test_updates_arrive(shown: Show, api: Api, kind: str) -> None:
    name = f"{slug(kind)}-plain"
    becomes(shown, f"{name}/data-1", "value-1")
    api.patch(core(shown.namespace, "configmaps", name), {"data": {"data-1": "value-2"}}).ok()
    becomes(shown, f"{name}/data-1", "value-2")


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(
            "configMap", marks=mark.behaviour("[sig-storage] ConfigMap optional updates should be reflected in volume")
        ),
        pytest.param(
            "projected configMap",
            marks=mark.behaviour("[sig-storage] Projected configMap optional updates should be reflected in volume"),
        ),
        pytest.param(
            "secret", marks=mark.behaviour("[sig-storage] Secrets optional updates should be reflected in volume")
        ),
        pytest.param(
            "projected secret",
            marks=mark.behaviour("[sig-storage] Projected secret optional updates should be reflected in volume"),
        ),
    ],
)
def test_optional_sources_come_change_and_go(shown: Show, api: Api, kind: str) -> None:
    plural = "configmaps" if kind.endswith("configMap") else "secrets"
    create, update, delete = (f"{slug(kind)}-{fate}" for fate in ("create", "update", "delete"))
    becomes(shown, f"{update}/data-1", "value-1")
    becomes(shown, f"{delete}/data-1", "value-1")
    assert shown.read("live", f"/v/{create}/data-1") == ""
    api.delete(core(shown.namespace, plural, delete)).ok()
    changed = source_object(kind, update, **{"data-3": "value-3"})
    api.put(core(shown.namespace, plural, update), changed).ok()
    api.post(core(shown.namespace, plural), source_object(kind, create, **{"data-1": "value-1"})).ok()
    becomes(shown, f"{create}/data-1", "value-1")
    becomes(shown, f"{update}/data-3", "value-3")
    becomes(shown, f"{update}/data-1", "")
    becomes(shown, f"{delete}/data-1", "")


@pytest.mark.parametrize(
    ("file", "key"),
    [
        pytest.param(
            "downward/labels",
            "labels",
            marks=mark.behaviour("[sig-storage] Downward API volume should update labels on modification"),
        ),
        pytest.param(
            "downward/annotations",
            "annotations",
            marks=mark.behaviour("[sig-storage] Downward API volume should update annotations on modification"),
        ),
        pytest.param(
            "projected-downward/labels",
            "labels",
            marks=mark.behaviour("[sig-storage] Projected downwardAPI should update labels on modification"),
        ),
        pytest.param(
            "projected-downward/annotations",
            "annotations",
            marks=mark.behaviour("[sig-storage] Projected downwardAPI should update annotations on modification"),
        ),
    ],
)
def test_the_pods_own_metadata_changes(shown: Show, api: Api, file: str, key: str) -> None:
    before = {"labels": 'key1="value1"', "annotations": 'builder="bar"'}[key]
    eventually(lambda: before in shown.read("live", f"/v/{file}"))
    added = file.replace("/", "-")
    api.patch(core(shown.namespace, "pods", "live"), {"metadata": {key: {added: "value3"}}}).ok()
    eventually(lambda: f"{added}={json.dumps('value3')}" in shown.read("live", f"/v/{file}"))
    assert before in shown.read("live", f"/v/{file}")
