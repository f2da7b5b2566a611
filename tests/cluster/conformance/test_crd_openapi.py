"""What OpenAPI says of custom resources, as kubectl reads it: explain, create and apply."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest

from tests.cluster.conformance.conftest import JSON_PATCH, Api
from tests.cluster.conformance.definitions import ANYTHING, Defined, defined, definition, version
from tests.cluster.conftest import RunningCluster
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster

PUBLISHED_SECONDS_MAX = 1.0


def text(description: str, **more: Any) -> dict[str, Any]:
    return {"description": description, "type": "string", **more}


def item(*required: str, **fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields, **({"required": list(required)} if required else {})}


def bars(about: str, items: dict[str, Any]) -> dict[str, Any]:
    return {"description": about, "type": "array", "items": items}


FOO = {
    "description": "Foo CRD for Testing",
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "description": "Specification of Foo",
            "properties": {
                "bars": bars(
                    "List of Bars and their specs.",
                    item(
                        "name",
                        name=text("Name of Bar."),
                        age=text("Age of Bar."),
                        feeling=text("Whether Bar is feeling great.", enum=["Great", "Down"]),
                        bazs={"description": "List of Bazs.", "type": "array", "items": {"type": "string"}},
                    ),
                )
            },
        },
        "status": {
            "description": "Status of Foo",
            "type": "object",
            "properties": {
                "bars": bars(
                    "List of Bars and their statuses.",
                    item(
                        name=text("Name of Bar."),
                        available={"description": "Whether the Bar is installed.", "type": "boolean"},
                        quxType=text("Indicates to external qux type.", pattern="in-tree|out-of-tree"),
                    ),
                )
            },
        },
    },
}
WALDO = {
    "description": "Waldo CRD for Testing",
    "type": "object",
    "properties": {
        "spec": {
            "description": "Specification of Waldo",
            "type": "object",
            "properties": {"dummy": text("Dummy property.")},
        }
    },
}
PRESERVE = "x-kubernetes-preserve-unknown-fields"
NESTED = {
    "description": "preserve-unknown-properties in nested field for Testing",
    "type": "object",
    "properties": {
        "spec": {"description": "Specification of Waldo", "type": "object", PRESERVE: True},
        "status": {
            "description": "Status of Waldo",
            "type": "object",
            "properties": {"bars": bars("List of Bars and their statuses.", item(age={"type": "string"}))},
        },
    },
}


def name_of(made: Defined, version: str) -> str:
    return ".".join([*reversed(made.group.split(".")), version, made.kind])


def published(api: Api) -> dict[str, Any]:
    found: dict[str, Any] = api.get("/openapi/v2").ok()["definitions"]
    return found


def without_ours(one: dict[str, Any]) -> dict[str, Any]:
    """Returns a definition without what every resource has."""
    one = copy.deepcopy(one)
    one.pop("x-kubernetes-group-version-kind")
    for key in ("apiVersion", "kind", "metadata"):
        one.get("properties", {}).pop(key, None)
    return one


def expect(api: Api, made: Defined, schema: dict[str, Any] | None, *versions: str) -> None:
    """Both documents show the schema soon (None: whatever it is)."""
    for served in versions:
        name = name_of(made, served)
        eventually(lambda name=name: name in published(api), seconds_max=PUBLISHED_SECONDS_MAX)  # type: ignore[misc]
        if schema is not None:
            assert without_ours(published(api)[name]) == schema
        path = f"apis/{made.group}/{served}"
        index = api.get("/openapi/v3")
        listed = json.loads(index.body) if isinstance(index.body, bytes) else index.body
        document = api.get(listed["paths"][path]["serverRelativeURL"]).ok()
        assert name in document["components"]["schemas"]


def gone(api: Api, made: Defined, version: str) -> None:
    eventually(lambda: name_of(made, version) not in published(api), seconds_max=PUBLISHED_SECONDS_MAX)


def explain(cluster: RunningCluster, field: str, pattern: str) -> None:
    found = cluster.kubectl("explain", field)
    assert re.search(pattern, found, re.DOTALL), found


def write_both_ways(cluster: RunningCluster, namespace: str, made: Defined, **content: Any) -> None:
    """kubectl's create and apply both take the object."""
    obj = json.dumps(made.object("test", **content))
    for verb in ("create", "apply"):
        cluster.kubectl("-n", namespace, verb, "-f", "-", input=obj)
        cluster.kubectl("-n", namespace, "delete", made.name, "test")


def refused(cluster: RunningCluster, namespace: str, made: Defined, *messages: str, **content: Any) -> None:
    """Neither way goes, for one of these reasons: the server's, or (kubectl before 1.25) the client's."""
    obj = json.dumps(made.object("test", **content))
    for verb in ("create", "apply"):
        done = cluster.run("-n", namespace, verb, "-f", "-", input=obj, check=False)
        assert done.returncode != 0
        assert any(one in done.stderr for one in messages), done.stderr


@pytest.mark.behaviour(
    "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD with validation schema"
)
def test_validation_schema(api: Api, cluster: RunningCluster, namespace: str) -> None:
    with defined(api, definition(version(schema=FOO))) as made:
        expect(api, made, FOO, "v1")
        write_both_ways(cluster, namespace, made, spec={"bars": [{"name": "test-bar"}]})
        bad = {"bars": [{"name": "test-bar", "feeling": "NonExistentValue"}]}
        refused(cluster, namespace, made, 'Unsupported value: "NonExistentValue"', spec=bad)
        refused(cluster, namespace, made, 'unknown field "spec.foo"', 'unknown field "foo"', spec={"foo": True})
        missing = "spec.bars[0].name: Required value", 'missing required field "name"'
        refused(cluster, namespace, made, *missing, spec={"bars": [{"age": "10"}]})
        plural = made.plural
        object_type = "<Object>"
        explain(
            cluster,
            plural,
            "DESCRIPTION:.*Foo CRD for Testing.*FIELDS:.*apiVersion.*<string>.*APIVersion defines.*"
            f"spec.*{object_type}.*Specification of Foo",
        )
        explain(
            cluster,
            f"{plural}.metadata",
            "DESCRIPTION:.*Standard object's metadata.*FIELDS:.*creationTimestamp.*<string>.*"
            "CreationTimestamp is a timestamp",
        )
        bars_type = r"<\[\]Object>"
        explain(
            cluster,
            f"{plural}.spec",
            f"DESCRIPTION:.*Specification of Foo.*FIELDS:.*bars.*{bars_type}.*List of Bars and their specs",
        )
        explain(
            cluster,
            f"{plural}.spec.bars",
            rf"bars.*{bars_type}.*DESCRIPTION:.*List of Bars and their specs.*FIELDS:.*bazs.*<\[\]string>.*"
            "List of Bazs.*name.*<string>.*Name of Bar",
        )
        done = cluster.run("explain", f"{plural}.spec.bars2", check=False)
        assert 'field "bars2" does not exist' in done.stderr
    gone(api, made, "v1")


@pytest.mark.behaviour(
    "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD without validation schema"
)
def test_no_schema(api: Api, cluster: RunningCluster, namespace: str) -> None:
    with defined(api, definition(version(schema=ANYTHING))) as made:
        expect(api, made, {"type": "object"}, "v1")
        write_both_ways(cluster, namespace, made, a={"b": [{"c": "d"}]})
        explain(cluster, made.plural, "DESCRIPTION:.*<empty>")


@pytest.mark.behaviour(
    "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] "
    "works for CRD preserving unknown fields at the schema root"
)
def test_unknown_fields_at_root(api: Api, cluster: RunningCluster, namespace: str) -> None:
    root = {**WALDO, PRESERVE: True}
    with defined(api, definition(version(schema=root))) as made:
        expect(api, made, None, "v1")
        write_both_ways(cluster, namespace, made, a={"b": [{"c": "d"}]})
        explain(cluster, made.plural, f"KIND:.*{made.kind}")


@pytest.mark.behaviour(
    "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] "
    "works for CRD preserving unknown fields in an embedded object"
)
def test_unknown_fields_nested(api: Api, cluster: RunningCluster, namespace: str) -> None:
    with defined(api, definition(version(schema=NESTED))) as made:
        expect(api, made, None, "v1")
        write_both_ways(cluster, namespace, made, spec={"a": None, "b": [{"c": "d"}]})
        explain(cluster, made.plural, "DESCRIPTION:.*preserve-unknown-properties in nested field for Testing")


@pytest.mark.behaviour(
    "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] "
    "works for multiple CRDs of different groups"
)
def test_groups(api: Api) -> None:
    with (
        defined(api, definition(version("v1", FOO))) as foo,
        defined(api, definition(version("v1beta1", WALDO))) as waldo,
    ):
        assert foo.group != waldo.group
        expect(api, waldo, WALDO, "v1beta1")
        expect(api, foo, FOO, "v1")
    gone(api, foo, "v1")
    gone(api, waldo, "v1beta1")


@pytest.mark.behaviour(
    "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] "
    "works for multiple CRDs of same group but different versions"
)
def test_versions(api: Api) -> None:
    with defined(api, definition(version("v2", FOO), version("v3", FOO))) as made:
        expect(api, made, FOO, "v2", "v3")
    with (
        defined(api, definition(version("v4", FOO))) as foo,
        defined(api, definition(version("v5", WALDO), group=foo.group)) as waldo,
    ):
        expect(api, waldo, WALDO, "v5")
        expect(api, foo, FOO, "v4")


@pytest.mark.behaviour(
    "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] "
    "works for multiple CRDs of same group and version but different kinds"
)
def test_kinds(api: Api) -> None:
    with (
        defined(api, definition(version("v6", FOO))) as foo,
        defined(api, definition(version("v6", WALDO), group=foo.group)) as waldo,
    ):
        expect(api, waldo, WALDO, "v6")
        expect(api, foo, FOO, "v6")


@pytest.mark.behaviour(
    "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] "
    "updates the published spec when one version gets renamed"
)
def test_rename(api: Api) -> None:
    with defined(api, definition(version("v2", FOO), version("v3", FOO))) as made:
        expect(api, made, FOO, "v2", "v3")
        patch = [
            {"op": "test", "path": "/spec/versions/1/name", "value": "v3"},
            {"op": "replace", "path": "/spec/versions/1/name", "value": "v4"},
        ]
        api.patch(made.path, patch, JSON_PATCH).ok()
        expect(api, made, FOO, "v4")
        gone(api, made, "v3")
        expect(api, made, FOO, "v2")


@pytest.mark.behaviour(
    "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] "
    "removes definition from spec when one version gets changed to not be served"
)
def test_not_served(api: Api) -> None:
    with defined(api, definition(version("v5", FOO), version("v6alpha1", FOO))) as made:
        expect(api, made, FOO, "v5", "v6alpha1")
        changed = made.get()
        changed["spec"]["versions"][1]["served"] = False
        api.put(made.path, changed).ok()
        gone(api, made, "v6alpha1")
        expect(api, made, FOO, "v5")
        tag = api.get("/openapi/v2").headers["etag"]
        assert api.get("/openapi/v2", headers={"If-None-Match": tag}).status == 304
