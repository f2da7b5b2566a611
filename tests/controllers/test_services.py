"""Endpoint slices, endpoints, mirrored slices and load balancers on a whole control plane."""

from __future__ import annotations

from typing import Any

from proa.client.controller import Context
from proa.client.resources import ENDPOINTS, ENDPOINTSLICES, EVENTS, IPADDRESSES, NODES, PODS, SERVICECIDRS, SERVICES
from proa.cloud.interface import Provider, load
from proa.cloud.services import FINALIZER, ServiceController
from proa.meta.objects import Obj
from tests.controllers.plane import Plane, plane, run

ENDPOINT_CONTROLLERS = ("endpointslice", "endpoints", "endpointslicemirroring")


def service(name: str = "web", **spec: Any) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8080}], **spec},
    }


async def pod(cluster: Plane, name: str, ip: str, *, ready: bool = True, **labels: str) -> None:
    made = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels or {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    await cluster.run_pod(await cluster.client.create(PODS, made, "ns"), ip=ip, ready=ready)


async def slices(cluster: Plane) -> list[Obj]:
    return (await cluster.client.list(ENDPOINTSLICES, "ns")).items


async def ready_addresses(cluster: Plane) -> list[str]:
    return sorted(
        address
        for one in await slices(cluster)
        for endpoint in one.get("endpoints") or ()
        if endpoint["conditions"].get("ready")
        for address in endpoint["addresses"]
    )


async def subsets(cluster: Plane, name: str = "web") -> list[Obj]:
    return (await cluster.client.get(ENDPOINTS, name, "ns")).get("subsets") or []


async def _is(awaitable: Any, value: Any) -> bool:
    return bool(await awaitable == value)


def test_a_service_follows_its_pods() -> None:
    async def main() -> None:
        async with plane(ENDPOINT_CONTROLLERS) as cluster:
            await cluster.client.create(SERVICES, service(selector={"app": "web"}), "ns")
            await cluster.until(lambda: slices(cluster))
            only = (await slices(cluster))[0]
            assert not only.get("endpoints") and not only.get("ports")
            assert only["metadata"]["labels"] == {
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                "kubernetes.io/service-name": "web",
            }
            await pod(cluster, "a", "10.0.0.1")
            await pod(cluster, "b", "10.0.0.2", ready=False)
            await pod(cluster, "c", "10.0.0.3", app="other")
            await cluster.until(lambda: _is(ready_addresses(cluster), ["10.0.0.1"]))
            found = await cluster.until(lambda: subsets(cluster))
            assert [one["ip"] for one in found[0]["addresses"]] == ["10.0.0.1"]
            assert [one["ip"] for one in found[0]["notReadyAddresses"]] == ["10.0.0.2"]
            assert found[0]["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
            await cluster.run_pod(await cluster.client.get(PODS, "b", "ns"), ip="10.0.0.2")
            await cluster.until(lambda: _is(ready_addresses(cluster), ["10.0.0.1", "10.0.0.2"]))
            assert len(await slices(cluster)) == 1
            await cluster.patch(PODS, "a", {"metadata": {"labels": {"app": "other"}}})
            await cluster.until(lambda: _is(ready_addresses(cluster), ["10.0.0.2"]))

    run(main)


def test_endpoints_of_a_users_own_are_mirrored() -> None:
    async def main() -> None:
        async with plane(ENDPOINT_CONTROLLERS) as cluster:
            await cluster.client.create(SERVICES, service("own"), "ns")
            made = {
                "apiVersion": "v1",
                "kind": "Endpoints",
                "metadata": {"name": "own"},
                "subsets": [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 80}]}],
            }
            await cluster.client.create(ENDPOINTS, made, "ns")
            await cluster.until(lambda: _is(ready_addresses(cluster), ["192.0.2.1"]))
            await cluster.patch(ENDPOINTS, "own", {"subsets": [{"addresses": [{"ip": "192.0.2.2"}]}]})
            await cluster.until(lambda: _is(ready_addresses(cluster), ["192.0.2.2"]))
            await cluster.client.delete(ENDPOINTS, "own", "ns")
            await cluster.until(lambda: _is(slices(cluster), []))

    run(main)


def balancers(text: str = "10.9.0.0/29") -> Any:
    def make(context: Context) -> ServiceController:
        provider: Provider = load("local", text, context.informers)
        return ServiceController(context, provider)

    return make


async def ingress(cluster: Plane, name: str) -> str:
    found = await cluster.client.get(SERVICES, name, "ns")
    listed = found["status"]["loadBalancer"].get("ingress") or [{}]
    return str(listed[0].get("ip") or "")


def test_load_balancers_get_addresses_and_give_them_back() -> None:
    async def main() -> None:
        async with plane((), extra=[balancers()]) as cluster:
            for name in ("one", "two"):
                await cluster.client.create(SERVICES, service(name, type="LoadBalancer"), "ns")
            first = await cluster.until(lambda: ingress(cluster, "one"))
            second = await cluster.until(lambda: ingress(cluster, "two"))
            assert {first, second} == {"10.9.0.2", "10.9.0.3"}
            found = await cluster.client.get(SERVICES, "one", "ns")
            assert FINALIZER in found["metadata"]["finalizers"]
            assert found["status"]["loadBalancer"]["ingress"][0]["ipMode"] == "VIP"
            await cluster.client.delete(SERVICES, "one", "ns")
            await cluster.gone(SERVICES, "one")
            await cluster.client.create(SERVICES, service("three", type="LoadBalancer"), "ns")
            assert await cluster.until(lambda: ingress(cluster, "three")) == first
            await cluster.patch(SERVICES, "three", {"spec": {"type": "ClusterIP"}})

            async def given_back() -> bool:
                found = await cluster.client.get(SERVICES, "three", "ns")
                return not found["metadata"].get("finalizers") and not found["status"]["loadBalancer"].get("ingress")

            await cluster.until(given_back)

    run(main)


def test_another_class_is_left_alone_and_a_full_range_is_told() -> None:
    async def main() -> None:
        async with plane((), extra=[balancers("10.9.0.5-10.9.0.5")]) as cluster:
            other = service("other", type="LoadBalancer", loadBalancerClass="example.com/lb")
            await cluster.client.create(SERVICES, other, "ns")
            await cluster.client.create(SERVICES, service("one", type="LoadBalancer"), "ns")
            assert await cluster.until(lambda: ingress(cluster, "one")) == "10.9.0.5"
            await cluster.client.create(SERVICES, service("two", type="LoadBalancer"), "ns")

            async def told() -> bool:
                from proa.client.resources import EVENTS

                events = (await cluster.client.list(EVENTS, "ns")).items
                return any(one["reason"] == "SyncLoadBalancerFailed" for one in events)

            await cluster.until(told)
            assert await ingress(cluster, "two") == "" and await ingress(cluster, "other") == ""
            await cluster.client.delete(SERVICES, "one", "ns")
            assert await cluster.until(lambda: ingress(cluster, "two"), 600) == "10.9.0.5"

    run(main)


def test_zones_show_in_endpoints() -> None:
    async def main() -> None:
        async with plane(ENDPOINT_CONTROLLERS) as cluster:
            node = {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "a"}},
            }
            await cluster.client.create(NODES, node)
            await cluster.client.create(
                SERVICES, service(selector={"app": "web"}, trafficDistribution="PreferClose"), "ns"
            )
            made = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "p", "labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "i"}], "nodeName": "n1"},
            }
            await cluster.run_pod(await cluster.client.create(PODS, made, "ns"), ip="10.0.0.1")
            await cluster.until(lambda: _is(ready_addresses(cluster), ["10.0.0.1"]))
            endpoint = (await slices(cluster))[0]["endpoints"][0]
            assert (endpoint["zone"], endpoint["nodeName"]) == ("a", "n1")
            assert endpoint["hints"] == {"forZones": [{"name": "a"}]}

    run(main)


def test_a_service_range_goes_when_its_addresses_are_given_back() -> None:
    async def main() -> None:
        async with plane(("service-cidr-controller",)) as cluster:
            made = {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "ServiceCIDR",
                "metadata": {"name": "more"},
                "spec": {"cidrs": ["10.200.0.0/24"]},
            }
            await cluster.client.create(SERVICECIDRS, made)

            async def condition(name: str) -> tuple[str, str]:
                found = await cluster.client.get(SERVICECIDRS, name)
                only = ((found.get("status") or {}).get("conditions") or [{}])[0]
                return only.get("status", ""), only.get("reason", "")

            for name in ("kubernetes", "more"):
                await cluster.until(lambda name=name: _is(condition(name), ("True", "")))
            address = {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "IPAddress",
                "metadata": {"name": "10.200.0.7"},
                "spec": {"parentRef": {"resource": "services", "namespace": "ns", "name": "s"}},
            }
            await cluster.client.create(IPADDRESSES, address)
            await cluster.client.delete(SERVICECIDRS, "more")
            await cluster.until(lambda: _is(condition("more"), ("False", "Terminating")))
            await cluster.client.delete(IPADDRESSES, "10.200.0.7")
            await cluster.gone(SERVICECIDRS, "more", "")

    run(main)


def test_zone_hints_follow_the_nodes() -> None:
    async def main() -> None:
        async with plane(ENDPOINT_CONTROLLERS) as cluster:
            for zone in "ab":
                labels = {"topology.kubernetes.io/zone": zone}
                meta = {"name": zone, "labels": labels}
                await cluster.client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": meta})
                await ready_node(cluster, zone, "2")
            wanted = service(selector={"app": "web"})
            wanted["metadata"]["annotations"] = {"service.kubernetes.io/topology-mode": "Auto"}
            await cluster.client.create(SERVICES, wanted, "ns")
            for number in range(4):
                made = {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {"name": f"p{number}", "labels": {"app": "web"}},
                    "spec": {"nodeName": "a", "containers": [{"name": "c", "image": "i"}]},
                }
                await cluster.run_pod(await cluster.client.create(PODS, made, "ns"), ip=f"10.0.0.{number + 1}")

            async def hints() -> dict[str, str]:
                return {
                    endpoint["addresses"][0]: (endpoint.get("hints") or {}).get("forZones", [{"name": ""}])[0]["name"]
                    for one in await slices(cluster)
                    for endpoint in one.get("endpoints") or ()
                }

            even = {"10.0.0.1": "a", "10.0.0.2": "a", "10.0.0.3": "b", "10.0.0.4": "b"}
            await cluster.until(lambda: _is(hints(), even))
            await told(cluster, ("Normal", "TopologyAwareHintsEnabled", "has been enabled, addressType: IPv4"))
            await ready_node(cluster, "b", "0")
            await cluster.until(lambda: _is(hints(), dict.fromkeys(even, "")))
            await told(cluster, ("Warning", "TopologyAwareHintsDisabled", "on one or more nodes, addressType: IPv4"))
            await ready_node(cluster, "b", "2")
            await cluster.until(lambda: _is(hints(), even))
            await cluster.patch(SERVICES, "web", {"metadata": {"annotations": None}})
            await cluster.until(lambda: _is(hints(), dict.fromkeys(even, "")))
            await told(cluster, ("Warning", "TopologyAwareHintsDisabled", "has been disabled, addressType: IPv4"))

    run(main)


async def ready_node(cluster: Plane, name: str, cpu: str) -> None:
    conditions = [{"type": "Ready", "status": "True"}]
    await cluster.patch(NODES, name, {"status": {"conditions": conditions, "allocatable": {"cpu": cpu}}}, "", "status")


async def told(cluster: Plane, expected: tuple[str, str, str]) -> None:
    async def there() -> bool:
        return any(
            (one["type"], one["reason"]) == expected[:2]
            and one["message"].endswith(expected[2])
            and one["source"]["component"] == "endpoint-slice-controller"
            for one in (await cluster.client.list(EVENTS, "ns")).items
        )

    await cluster.until(there)
