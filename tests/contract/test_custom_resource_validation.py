"""Validation of custom resources through the endpoint, with Kubernetes' Python client and kubectl.

The behaviours are those of upstream's end-to-end suites "CustomResourceValidationRules" and "CRDValidationRatcheting".
"""

from __future__ import annotations

import json
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

from proa.testing import Cluster
from tests.cluster.waiting import eventually

MERGE = "application/merge-patch+json"
WHOLE = {"type": "integer"}
TEXT = {"type": "string"}


class Things:
    """A definition with this schema of `spec`, and the objects it makes."""

    def __init__(self, api: client.ApiClient, **spec: Any) -> None:
        self.api = client.CustomObjectsApi(api)
        self.definitions = client.ApiextensionsV1Api(api)
        self.group = f"g{uuid.uuid4().hex[:6]}.example.com"
        self.names = {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"}
        self.definitions.create_custom_resource_definition(self.definition({"type": "object", **spec}))
        eventually(self._established, 10)

    def definition(self, spec: dict[str, Any]) -> Any:
        status = {"type": "object", "properties": {"phase": TEXT}}
        schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": status}}}
        return {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"things.{self.group}"},
            "spec": {
                "group": self.group,
                "scope": "Cluster",
                "names": self.names,
                "versions": [
                    {"name": "v1", "served": True, "storage": True, "schema": schema, "subresources": {"status": {}}}
                ],
            },
        }

    def _established(self) -> bool:
        found: Any = self.definitions.read_custom_resource_definition(f"things.{self.group}")
        return any(one.type == "Established" and one.status == "True" for one in found.status.conditions or ())

    def change(self, **spec: Any) -> None:
        """Gives the definition another schema; objects that are there may no longer fit."""
        wanted = self.definition({"type": "object", **spec})
        found: Any = self.definitions.read_custom_resource_definition(f"things.{self.group}")
        wanted["metadata"]["resourceVersion"] = found.metadata.resource_version
        self.definitions.replace_custom_resource_definition(f"things.{self.group}", wanted)

    def create(self, name: str, **spec: Any) -> None:
        kind = {"apiVersion": f"{self.group}/v1", "kind": "Thing", "metadata": {"name": name}}
        self.api.create_cluster_custom_object(self.group, "v1", "things", kind | {"spec": spec})

    def update(self, name: str, **spec: Any) -> str:
        """Patches `spec`; returns the warnings of the answer."""
        patch = {"spec": spec}
        _, status, headers = self.api.patch_cluster_custom_object_with_http_info(
            self.group, "v1", "things", name, patch, _content_type=MERGE
        )
        assert status == 200
        return str(headers.get("Warning", ""))


@pytest.fixture(scope="module")
def kubeconfig() -> Iterator[Path]:
    with Cluster(nodes=0, https=True) as cluster:
        assert cluster.kubeconfig
        yield cluster.kubeconfig


@pytest.fixture(scope="module")
def api(kubeconfig: Path) -> client.ApiClient:
    made: client.ApiClient = config.new_client_from_config(str(kubeconfig))  # type: ignore[no-untyped-call]
    return made


def causes(refused: pytest.ExceptionInfo[client.ApiException], status: int = 422) -> list[str]:
    assert refused.value.status == status, refused.value
    return [f"{one['field']}: {one['message']}" for one in json.loads(refused.value.body or "")["details"]["causes"]]


def rule(text: str, **more: Any) -> list[dict[str, Any]]:
    return [{"rule": text, **more}]


# ---------------------------------------------------------------- rules


def test_objects_keep_the_rules(api: client.ApiClient) -> None:
    ordered = rule(
        "self.x <= self.y",
        messageExpression="'%d is more than %d'.format([self.x, self.y])",
        reason="FieldValueForbidden",
        fieldPath=".x",
    )
    things = Things(api, properties={"x": WHOLE, "y": WHOLE}, **{"x-kubernetes-validations": ordered})
    things.create("good", x=1, y=2)
    with pytest.raises(client.ApiException) as refused:
        things.create("bad", x=3, y=2)
    assert causes(refused) == ["spec.x: Forbidden: 3 is more than 2"]
    with pytest.raises(client.ApiException) as refused:
        things.update("good", x=9)
    assert causes(refused) == ["spec.x: Forbidden: 9 is more than 2"]


def test_transition_rules(api: client.ApiClient) -> None:
    fixed = TEXT | {"x-kubernetes-validations": rule("self == oldSelf", message="is immutable")}
    grows = WHOLE | {"x-kubernetes-validations": rule("self > oldSelf.orValue(0)", optionalOldSelf=True)}
    things = Things(api, properties={"fixed": fixed, "grows": grows})
    with pytest.raises(client.ApiException) as refused:
        things.create("one", fixed="a", grows=0)
    assert causes(refused) == ["spec.grows: Invalid value: 0: failed rule: self > oldSelf.orValue(0)"]
    things.create("one", fixed="a", grows=1)
    things.update("one", grows=2)
    with pytest.raises(client.ApiException) as refused:
        things.update("one", fixed="b", grows=1)
    assert sorted(causes(refused)) == [
        'spec.fixed: Invalid value: "b": is immutable',
        "spec.grows: Invalid value: 1: failed rule: self > oldSelf.orValue(0)",
    ]


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"properties": {"x": WHOLE}, "x-kubernetes-validations": rule("self.nope > 0")}, "undefined field 'nope'"),
        ({"properties": {"x": WHOLE}, "x-kubernetes-validations": rule("self.x = 1")}, "Syntax error"),
        ({"properties": {"x": WHOLE}, "x-kubernetes-validations": rule("self.x + 1")}, "must evaluate to a bool"),
        (
            {
                "properties": {"x": {"type": "array", "items": WHOLE}},
                "x-kubernetes-validations": rule("self.x.all(a, self.x.all(b, self.x.all(c, a == b && b == c)))"),
            },
            "estimated rule cost exceeds budget by factor of more than 100x",
        ),
    ],
)
def test_definitions_with_bad_rules_are_refused(api: client.ApiClient, spec: dict[str, Any], text: str) -> None:
    things = Things(api)
    with pytest.raises(client.ApiException) as refused:
        things.change(**spec)
    assert any(text in one for one in causes(refused)), causes(refused)


def test_rules_have_a_budget_at_run_time(api: client.ApiClient) -> None:
    """What the schema allows at most may cost ten times of what one rule may cost when it runs."""
    pairs = rule("self.all(a, self.all(b, a == b || a + b > 0))")
    numbers = {"type": "array", "items": WHOLE, "maxItems": 1000, "x-kubernetes-validations": pairs}
    things = Things(api, properties={"numbers": numbers})
    things.create("small", numbers=list(range(1, 100)))
    with pytest.raises(client.ApiException) as refused:
        things.create("large", numbers=list(range(1, 1000)))
    assert "no further validation rules will be run due to call cost exceeds limit for rule" in causes(refused)[0]


# ---------------------------------------------------------------- ratcheting


def test_what_did_not_change_may_stay(api: client.ApiClient) -> None:
    things = Things(api, properties={"x": WHOLE, "label": TEXT, "list": {"type": "array", "items": TEXT}})
    things.create("one", x=1, label="long", list=["a", "long"])
    short = {"maxLength": 2}
    even = {"x-kubernetes-validations": rule("self % 2 == 0", message="must be even")}
    things.change(
        properties={
            "x": WHOLE | even,
            "label": TEXT | short,
            "list": {"type": "array", "items": TEXT | short},
            "free": TEXT,
        }
    )
    with pytest.raises(client.ApiException) as refused:
        things.create("two", x=1, label="long")
    assert len(causes(refused)) == 2
    warning = things.update("one", free="y")
    assert "must be even" in warning
    with pytest.raises(client.ApiException) as refused:
        things.update("one", x=3)
    assert causes(refused) == ["spec.x: Invalid value: 3: must be even"]
    with pytest.raises(client.ApiException) as refused:
        things.update("one", list=["a", "long", "b"])
    assert causes(refused)[0] == "spec.list[1]: Too long: may not be more than 2 bytes"
    assert things.update("one", x=2, label="ok", list=["b"]) == ""


def test_transition_rules_do_not_ratchet(api: client.ApiClient) -> None:
    things = Things(api, properties={"x": WHOLE, "free": TEXT})
    things.create("one", x=1)
    grows = {"x-kubernetes-validations": rule("self > oldSelf", message="must grow")}
    things.change(properties={"x": WHOLE | grows, "free": TEXT})
    with pytest.raises(client.ApiException) as refused:
        things.update("one", free="y")
    assert causes(refused) == ["spec.x: Invalid value: 1: must grow"]


def test_the_status_may_change_beside_what_is_wrong(api: client.ApiClient) -> None:
    things = Things(api, properties={"x": WHOLE})
    things.create("one", x=1)
    things.change(properties={"x": WHOLE | {"x-kubernetes-validations": rule("self % 2 == 0", message="must be even")}})
    _, status, headers = things.api.patch_cluster_custom_object_status_with_http_info(
        things.group, "v1", "things", "one", {"status": {"phase": "Ready"}}, _content_type=MERGE
    )
    assert status == 200
    assert "must be even" in str(headers.get("Warning"))


# ---------------------------------------------------------------- kubectl


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl on this machine")
def test_kubectl_tells_of_rules(api: client.ApiClient, kubeconfig: Path) -> None:
    things = Things(api, properties={"x": WHOLE, "free": TEXT})
    things.create("one", x=1)
    even = {"x-kubernetes-validations": rule("self % 2 == 0", message="must be even")}
    things.change(properties={"x": WHOLE | even, "free": TEXT})

    def patch(spec: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        command = ["kubectl", f"--kubeconfig={kubeconfig}", "patch", f"things.{things.group}", "one", "--type=merge"]
        return subprocess.run([*command, "-p", json.dumps({"spec": spec})], capture_output=True, text=True, check=False)

    done = patch({"free": "y"})
    assert done.returncode == 0 and "patched" in done.stdout, done.stderr
    assert "Warning: spec.x: Invalid value: 1: must be even" in done.stderr
    done = patch({"x": 5})
    assert done.returncode == 1
    assert done.stderr.startswith('The Thing "one" is invalid: spec.x: Invalid value: 5: must be even'), done.stderr
