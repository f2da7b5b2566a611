"""Decoding by schema: recorded objects stay as they are, recorded mistakes get the recorded answers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proa.meta.errors import StatusError
from proa.meta.gvk import GVK, split_api_version
from proa.meta.schema import build
from proa.meta.schema.catalog import Catalog, catalog, pack
from proa.meta.schema.decode import IGNORE, STRICT, WARN, decode, decode_into
from tests.unit import recorded

CORE = "io.k8s.api.core.v1."


@pytest.fixture(scope="module")
def by_kind() -> dict[GVK, str]:
    definitions = catalog()
    return {kind: name for name in definitions.names for kind in definitions[name].kinds}


def kind_of(obj: dict[str, Any]) -> GVK:
    return GVK(*split_api_version(obj.get("apiVersion") or ""), obj.get("kind") or "")


THEMES = [
    "apply",
    "conflicts",
    "defaulting",
    "delete",
    "metadata",
    "patch-strategic",
    "services",
    "updates",
    "validation",
]
PLACEHOLDERS = {"<time>": "2026-01-01T00:00:00Z", "<microtime>": "2026-01-01T00:00:00.000000Z"}


def filled(value: Any) -> Any:
    """Returns a recorded value with typed placeholders replaced."""
    if isinstance(value, dict):
        return {key: filled(item) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item) for item in value]
    if isinstance(value, str) and re.fullmatch(r"<nodeport:\d+>", value):
        return 31000
    return PLACEHOLDERS.get(value, value) if isinstance(value, str) else value


def answers(theme: str) -> Iterator[dict[str, Any]]:
    for sequence in recorded.load(f"exchanges/{theme}.json"):
        for step in sequence["steps"]:
            body = (step.get("response") or {}).get("body")
            if isinstance(body, dict) and "kind" in body and "apiVersion" in body and not step.get("view"):
                yield filled(body)


@pytest.mark.parametrize("theme", THEMES)
def test_recorded_objects_are_in_canonical_form(theme: str, by_kind: dict[GVK, str]) -> None:
    checked = 0
    for body in answers(theme):
        definition = by_kind.get(kind_of(body))
        if definition is None or body["kind"] == "Status":
            continue
        decoded, problems = decode(definition, body)
        assert (decoded, problems) == (body, [])
        checked += 1
    assert checked


@pytest.mark.parametrize("theme", ["validation", "field-validation"])
def test_recorded_mistakes(theme: str, by_kind: dict[GVK, str]) -> None:
    checked = 0
    for _, request, response in recorded.steps(theme):
        body, answer = request.get("body"), response.get("body")
        message = answer.get("message", "") if isinstance(answer, dict) else ""
        if request["method"] != "POST" or "cannot be handled" not in message or "unknown conversion" in message:
            continue
        definition = by_kind.get(kind_of(body)) if isinstance(body, dict) else None
        if definition is None:
            continue
        with pytest.raises(StatusError) as caught:
            decode_into(definition, body, STRICT if "=Strict" in request["path"] else WARN)
        assert (caught.value.code, caught.value.message) == (400, message)
        checked += 1
    assert checked >= 3


def pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]} | spec}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"hostNetwork": False}, {}),
        ({"enableServiceLinks": False}, {"enableServiceLinks": False}),
        ({"nodeName": ""}, {}),
        ({"tolerations": []}, {}),
        ({"nodeSelector": {"a": None}}, {"nodeSelector": {"a": ""}}),
        ({"priority": None}, {}),
        ({"priority": 5.0}, {"priority": 5}),
        ({"securityContext": {}}, {"securityContext": {}}),
        (
            {"volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1024Ki"}}]},
            {"volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]},
        ),
        ({"volumes": [None]}, {"volumes": [{"name": ""}]}),
        ({"imagePullSecrets": [{}]}, {"imagePullSecrets": [{}]}),
    ],
)
def test_values_take_the_form_that_go_gives_them(given: dict[str, Any], expected: dict[str, Any]) -> None:
    decoded, problems = decode(CORE + "Pod", pod(**given))
    assert problems == []
    spec = decoded["spec"]
    assert spec.pop("containers") == [{"name": "c", "resources": {}}]
    assert spec == expected


def test_what_go_always_writes() -> None:
    assert decode("io.k8s.api.rbac.v1.ClusterRole", {})[0] == {"metadata": {}, "rules": None}
    assert decode(CORE + "Service", {})[0] == {"metadata": {}, "spec": {}, "status": {"loadBalancer": {}}}
    assert decode(CORE + "PodList", {"items": []})[0] == {"metadata": {}, "items": []}


def test_order_is_upstreams() -> None:
    given = {
        "spec": {"restartPolicy": "Never", "containers": []},
        "metadata": {"labels": {}, "name": "p"},
        "kind": "Pod",
    }
    decoded, _ = decode(CORE + "Pod", given | {"apiVersion": "v1"})
    assert list(decoded) == ["kind", "apiVersion", "metadata", "spec", "status"]
    assert list(decoded["spec"]) == ["containers", "restartPolicy"]


@pytest.mark.parametrize(
    ("name", "body", "value"),
    [
        ("Secret", {"data": {"a": "aGk=\n"}}, {"a": "aGk="}),
        ("Secret", {"data": {"a": None}}, {"a": ""}),
    ],
)
def test_bytes(name: str, body: dict[str, Any], value: Any) -> None:
    assert decode(CORE + name, body)[0]["data"] == value


@pytest.mark.parametrize(
    ("definition", "body", "part"),
    [
        (CORE + "Secret", {"data": {"a": "?"}}, "illegal base64 data at input byte 0"),
        ("io.k8s.api.coordination.v1.Lease", {"spec": {"renewTime": "2026-01-01T00:00:00Z"}}, 'as ".000000"'),
        (CORE + "Pod", [], "cannot unmarshal array into Go value of type v1.Pod"),
        (
            CORE + "Pod",
            {"kind": "Pod", "spec": {"containers": [5]}},
            "number into Go struct field PodSpec.spec.containers",
        ),
        (CORE + "ConfigMap", {"data": {"a": 1}, "metadata": 5}, "ConfigMap.data of type string"),
    ],
)
def test_mistyped(definition: str, body: Any, part: str) -> None:
    with pytest.raises(StatusError) as caught:
        decode_into(definition, body)
    assert caught.value.code == 400 and part in caught.value.message


def test_modes() -> None:
    body = {"kind": "ConfigMap", "apiVersion": "v1", "x": 1, "metadata": {"y": 2}}
    expected = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {}}
    assert decode_into(CORE + "ConfigMap", body, IGNORE, ["a"]) == (expected, [])
    warnings = ['duplicate field "a"', 'unknown field "x"', 'unknown field "metadata.y"']
    assert decode_into(CORE + "ConfigMap", body, WARN, ["a"]) == (expected, warnings)
    with pytest.raises(StatusError, match="strict decoding error: duplicate field"):
        decode_into(CORE + "ConfigMap", body, STRICT, ["a"])


def test_times_are_written_in_utc() -> None:
    body = {"metadata": {"deletionTimestamp": "2026-01-02T03:04:05.678+02:00"}}
    assert decode(CORE + "ConfigMap", body)[0]["metadata"] == {"deletionTimestamp": "2026-01-02T01:04:05Z"}


def test_catalog_is_packed_and_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = pack(build.compile_all())
    assert len(packed) < 200_000
    ports = Catalog(packed)[CORE + "Container"].fields["ports"]
    assert (ports.list_type, ports.list_keys) == ("map", ("containerPort", "protocol"))
    assert (ports.patch_strategy, ports.patch_key) == (("merge",), "containerPort")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    catalog.cache_clear()
    assert catalog().names == Catalog(packed).names
    (cached,) = (tmp_path / "proa").iterdir()
    assert cached.read_bytes() == packed
    catalog.cache_clear()


def test_an_empty_list_of_managers_is_kept_for_it_resets_them() -> None:
    assert decode(CORE + "ConfigMap", {"metadata": {"managedFields": []}})[0]["metadata"] == {"managedFields": []}
