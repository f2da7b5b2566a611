"""Custom resource definitions that exist for the length of a test, and what they make."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.cluster.conformance.conftest import Api
from tests.cluster.waiting import eventually

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def version(name: str = "v1", schema: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A served version that is not stored; without a schema it takes anything."""
    schema = copy.deepcopy(schema or ANYTHING)
    return {"name": name, "served": True, "storage": False, "schema": {"openAPIV3Schema": schema}, **more}


def definition(*versions: dict[str, Any], group: str = "", kind: str = "", **spec: Any) -> dict[str, Any]:
    """A definition of a group and kind of its own; the first version is the stored one."""
    unique = uuid.uuid4().hex[:6]
    kind = kind or f"Noxu{unique}"
    group = group or f"g{unique}.example.com"
    plural = f"{kind.lower()}s"
    versions = versions or (version(),)
    if not any(one["storage"] for one in versions):
        versions = ({**versions[0], "storage": True}, *versions[1:])
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"},
            "versions": list(versions),
            **spec,
        },
    }


class Defined:
    """A definition that is there, and the paths and objects of its resources."""

    def __init__(self, api: Api, made: dict[str, Any]) -> None:
        self.api = api
        self.name: str = made["metadata"]["name"]
        self.group: str = made["spec"]["group"]
        self.kind: str = made["spec"]["names"]["kind"]
        self.plural: str = made["spec"]["names"]["plural"]

    @property
    def path(self) -> str:
        return f"{DEFINITIONS}/{self.name}"

    def get(self) -> dict[str, Any]:
        found: dict[str, Any] = self.api.get(self.path).ok()
        return found

    def conditions(self) -> dict[str, str]:
        status = self.get().get("status") or {}
        return {one["type"]: one["status"] for one in status.get("conditions") or ()}

    def objects(self, namespace: str = "", version: str = "v1", name: str = "") -> str:
        """The path of its objects, or of one of them."""
        scope = f"/namespaces/{namespace}" if namespace else ""
        return f"/apis/{self.group}/{version}{scope}/{self.plural}" + (f"/{name}" if name else "")

    def object(self, name: str, version: str = "v1", **content: Any) -> dict[str, Any]:
        return {"apiVersion": f"{self.group}/{version}", "kind": self.kind, "metadata": {"name": name}, **content}

    def delete(self) -> None:
        self.api.delete(self.path)
        eventually(lambda: self.api.get(self.path).status == 404)


@contextmanager
def defined(api: Api, wanted: dict[str, Any]) -> Iterator[Defined]:
    """Creates a definition, waits until it is established, and deletes it in the end."""
    made = Defined(api, api.post(DEFINITIONS, wanted).ok())
    try:
        eventually(lambda: made.conditions().get("Established") == "True")
        yield made
    finally:
        made.delete()
