"""Owners and dependents, and the end of a namespace, on a whole control plane."""

from __future__ import annotations

from typing import Any

import pytest

from proa.client.interface import DeleteOptions
from proa.client.resources import (
    CLUSTERROLES,
    CONFIGMAPS,
    CUSTOMRESOURCEDEFINITIONS,
    NAMESPACES,
    PODS,
    SECRETS,
    SERVICEACCOUNTS,
)
from proa.controllers.runtime import Options
from proa.meta.gvk import GVR
from proa.meta.objects import Obj
from tests.controllers.plane import Plane, plane, run

GC = ("garbagecollector",)


async def config_map(cluster: Plane, name: str, *owners: Obj, namespace: str = "ns", **more: Any) -> Obj:
    meta: Obj = {"name": name, **more}
    if owners:
        meta["ownerReferences"] = [
            {
                "apiVersion": one["apiVersion"],
                "kind": one["kind"],
                "name": one["metadata"]["name"],
                "uid": one["metadata"]["uid"],
                "blockOwnerDeletion": True,
            }
            for one in owners
        ]
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta}
    return await cluster.client.create(CONFIGMAPS, made, namespace)


def ghost(name: str = "ghost", uid: str = "6d0a8bd6-4a8c-4f7c-9c5b-1f0e3a2b4c5d") -> Obj:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "uid": uid}}


async def references(cluster: Plane, name: str) -> list[str]:
    found = await cluster.client.get(CONFIGMAPS, name, "ns")
    return [one["name"] for one in found["metadata"].get("ownerReferences") or []]


async def delete(cluster: Plane, name: str, propagation: str) -> None:
    await cluster.client.delete(CONFIGMAPS, name, "ns", DeleteOptions(propagation=propagation))


def test_background_deletion_takes_dependents_and_theirs() -> None:
    async def main() -> None:
        async with plane(GC) as cluster:
            owner = await config_map(cluster, "owner")
            child = await config_map(cluster, "child", owner)
            await config_map(cluster, "grandchild", child)
            await delete(cluster, "owner", "Background")
            for name in ("owner", "child", "grandchild"):
                await cluster.gone(CONFIGMAPS, name)

    run(main)


def test_a_dependent_with_another_owner_stays_without_the_reference() -> None:
    async def main() -> None:
        async with plane(GC) as cluster:
            one, two = await config_map(cluster, "one"), await config_map(cluster, "two")
            await config_map(cluster, "child", one, two)
            await delete(cluster, "one", "Background")
            await cluster.until(lambda: _is(references(cluster, "child"), ["two"]))
            await delete(cluster, "two", "Background")
            await cluster.gone(CONFIGMAPS, "child")

    run(main)


async def _is(awaitable: Any, value: Any) -> bool:
    return bool(await awaitable == value)


def test_absent_owners() -> None:
    async def main() -> None:
        async with plane(GC, namespaces=("ns", "other")) as cluster:
            elsewhere = await config_map(cluster, "elsewhere", namespace="other")
            real = await config_map(cluster, "real")
            await config_map(cluster, "left", ghost())
            await config_map(cluster, "abroad", elsewhere)
            await config_map(cluster, "renamed", ghost("real"))
            await config_map(cluster, "kept", ghost(), real)
            for name in ("left", "abroad", "renamed"):
                await cluster.gone(CONFIGMAPS, name)
            await cluster.until(lambda: _is(references(cluster, "kept"), ["real"]))

    run(main)


def test_orphans() -> None:
    async def main() -> None:
        async with plane(GC) as cluster:
            owner = await config_map(cluster, "owner")
            await config_map(cluster, "child", owner)
            await delete(cluster, "owner", "Orphan")
            await cluster.gone(CONFIGMAPS, "owner")
            assert await references(cluster, "child") == []

    run(main)


def test_foreground_deletion_waits_for_blocking_dependents() -> None:
    async def main() -> None:
        async with plane(GC) as cluster:
            owner = await config_map(cluster, "owner")
            await config_map(cluster, "blocking", owner, finalizers=["example.com/x"])
            await delete(cluster, "owner", "Foreground")

            async def going() -> bool:
                found = await cluster.client.get(CONFIGMAPS, "blocking", "ns")
                return bool(found["metadata"].get("deletionTimestamp"))

            await cluster.until(going)
            found = await cluster.client.get(CONFIGMAPS, "owner", "ns")
            assert found["metadata"]["finalizers"] == ["foregroundDeletion"]
            await cluster.patch(CONFIGMAPS, "blocking", {"metadata": {"finalizers": None}})
            await cluster.gone(CONFIGMAPS, "owner")

    run(main)


def test_a_cluster_scoped_owner() -> None:
    async def main() -> None:
        async with plane(GC) as cluster:
            role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "r"}}
            made = await cluster.client.create(CLUSTERROLES, {**role, "rules": []})
            await config_map(cluster, "child", made)
            await cluster.client.delete(CLUSTERROLES, "r")
            await cluster.gone(CONFIGMAPS, "child")

    run(main)


def test_a_namespace_goes_with_all_that_is_in_it() -> None:
    async def main() -> None:
        async with plane(("namespace",)) as cluster:
            await config_map(cluster, "held", finalizers=["example.com/x"])
            await cluster.client.create(
                SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}, "ns"
            )
            await cluster.client.delete(NAMESPACES, "ns")

            async def conditions() -> dict[str, Obj]:
                found = await cluster.client.get(NAMESPACES, "ns")
                listed = {one["type"]: one for one in (found.get("status") or {}).get("conditions") or []}
                return listed if listed.get("NamespaceFinalizersRemaining", {}).get("status") == "True" else {}

            found = await cluster.until(conditions)
            assert found["NamespaceContentRemaining"]["message"] == (
                "Some resources are remaining: configmaps. has 1 resource instances"
            )
            assert found["NamespaceFinalizersRemaining"]["message"] == (
                "Some content in the namespace has finalizers remaining: example.com/x in 1 resource instances"
            )
            assert found["NamespaceDeletionContentFailure"]["status"] == "False"
            await cluster.gone(SECRETS, "s")
            await cluster.patch(CONFIGMAPS, "held", {"metadata": {"finalizers": None}})
            await cluster.gone(NAMESPACES, "ns", "")

    run(main)


def test_every_namespace_has_an_account_and_the_ca() -> None:
    async def main() -> None:
        only = ("serviceaccount", "root-ca-certificate-publisher")
        async with plane(only, Options(root_ca="PEM")) as cluster:

            async def there() -> bool:
                await cluster.client.get(SERVICEACCOUNTS, "default", "ns")
                found = await cluster.client.get(CONFIGMAPS, "kube-root-ca.crt", "ns")
                return bool(found["data"] == {"ca.crt": "PEM"})

            await cluster.until(there)
            await cluster.client.delete(SERVICEACCOUNTS, "default", "ns")
            await cluster.patch(CONFIGMAPS, "kube-root-ca.crt", {"data": {"ca.crt": "other"}})
            await cluster.until(there)

    run(main)


def test_aggregated_roles_follow_their_parts() -> None:
    async def main() -> None:
        async with plane(("clusterrole-aggregation",)) as cluster:

            def role(name: str, **more: Any) -> Obj:
                meta = {"name": name, "labels": more.pop("labels", {})}
                return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": meta, **more}

            selectors = {"clusterRoleSelectors": [{"matchLabels": {"to": "yes"}}]}
            rule = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}
            await cluster.client.create(CLUSTERROLES, role("all", aggregationRule=selectors, rules=[]))
            await cluster.client.create(CLUSTERROLES, role("part", labels={"to": "yes"}, rules=[rule]))

            async def rules() -> list[Obj]:
                return (await cluster.client.get(CLUSTERROLES, "all")).get("rules") or []

            await cluster.until(lambda: _is(rules(), [rule]))
            await cluster.client.delete(CLUSTERROLES, "part")
            await cluster.until(lambda: _is(rules(), []))

    run(main)


def test_pods_of_a_namespace_go_first() -> None:
    async def main() -> None:
        async with plane(("namespace",)) as cluster:
            await config_map(cluster, "config")
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "p", "finalizers": ["example.com/x"]},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            }
            await cluster.client.create(PODS, pod, "ns")
            await cluster.client.delete(NAMESPACES, "ns")

            async def going() -> bool:
                return bool((await cluster.client.get(PODS, "p", "ns"))["metadata"].get("deletionTimestamp"))

            await cluster.until(going)
            await cluster.client.get(CONFIGMAPS, "config", "ns")
            await cluster.patch(PODS, "p", {"metadata": {"finalizers": None}})
            await cluster.gone(NAMESPACES, "ns", "")

    run(main)


async def own(cluster: Plane, name: str, owner: Obj) -> None:
    reference = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    await cluster.patch(CONFIGMAPS, name, {"metadata": {"ownerReferences": [reference]}})


@pytest.mark.parametrize("propagation", ["Foreground", "Background"])
def test_a_circle_of_owners_goes_too(propagation: str) -> None:
    async def main() -> None:
        async with plane(GC) as cluster:
            one, two, three = [await config_map(cluster, name) for name in ("one", "two", "three")]
            await own(cluster, "one", three)
            await own(cluster, "two", one)
            await own(cluster, "three", two)
            await delete(cluster, "one", propagation)
            for name in ("one", "two", "three"):
                await cluster.gone(CONFIGMAPS, name)

    run(main)


def test_a_dependent_with_a_solid_owner_survives_a_foreground_deletion() -> None:
    async def main() -> None:
        async with plane(GC) as cluster:
            going, staying = await config_map(cluster, "going"), await config_map(cluster, "staying")
            await config_map(cluster, "both", going, staying)
            await config_map(cluster, "only", going)
            await delete(cluster, "going", "Foreground")
            await cluster.gone(CONFIGMAPS, "going")
            await cluster.gone(CONFIGMAPS, "only")
            assert await references(cluster, "both") == ["staying"]

    run(main)


def test_custom_resources_are_collected_and_go_with_their_namespace() -> None:
    async def main() -> None:
        async with plane((*GC, "namespace")) as cluster:
            schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
            definition = {
                "apiVersion": "apiextensions.k8s.io/v1",
                "kind": "CustomResourceDefinition",
                "metadata": {"name": "things.example.com"},
                "spec": {
                    "group": "example.com",
                    "names": {"kind": "Thing", "plural": "things", "singular": "thing", "listKind": "ThingList"},
                    "scope": "Namespaced",
                    "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
                },
            }
            await cluster.client.create(CUSTOMRESOURCEDEFINITIONS, definition)
            things = GVR("example.com", "v1", "things")

            async def thing(name: str, *owners: Obj) -> Obj:
                meta: Obj = {"name": name}
                if owners:
                    owner = owners[0]
                    meta["ownerReferences"] = [
                        {
                            "apiVersion": owner["apiVersion"],
                            "kind": owner["kind"],
                            "name": owner["metadata"]["name"],
                            "uid": owner["metadata"]["uid"],
                        }
                    ]
                made = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": meta}
                return await cluster.client.create(things, made, "ns")

            async def served() -> bool:
                return (await cluster.client.list(things, "ns")).items == []

            await cluster.until(served)
            owner = await thing("owner")
            await thing("child", owner)
            await config_map(cluster, "of-a-thing", owner)
            await thing("left")
            await cluster.client.delete(things, "owner", "ns")
            await cluster.gone(things, "child")
            await cluster.gone(CONFIGMAPS, "of-a-thing")
            await cluster.client.get(things, "left", "ns")
            await cluster.client.delete(NAMESPACES, "ns")
            await cluster.gone(NAMESPACES, "ns", "")

    run(main)
