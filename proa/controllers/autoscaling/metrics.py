"""Reads metrics: of pods from metrics.k8s.io, of anything else from the custom and external metrics APIs."""

from __future__ import annotations

from collections.abc import Sequence

from proa.client.interface import Client, ListOptions
from proa.controllers.autoscaling.plan import NoMetrics
from proa.meta.errors import StatusError
from proa.meta.gvk import GVR
from proa.meta.objects import Obj, name_of
from proa.meta.quantity import Quantity, parse
from proa.meta.selectors import from_object

POD_METRICS = GVR("metrics.k8s.io", "v1beta1", "pods")
_CUSTOM = ("custom.metrics.k8s.io", "v1beta1")
_EXTERNAL = ("external.metrics.k8s.io", "v1beta1")


def amount(resource: str, quantity: Quantity) -> int:
    """Returns a resource's quantity as an integer: milli for cpu, whole units for the rest."""
    return quantity.milli_value if resource == "cpu" else quantity.value


class Metrics:
    """The metrics APIs as one client sees them; every method raises NoMetrics."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def of_pods(self, resource: str, namespace: str, selector: str, container: str = "") -> dict[str, int]:
        """Returns what each pod (or one container of it) uses of a resource, by name."""
        items = await self._list(POD_METRICS, namespace, selector, "FailedGetResourceMetric", "resource metrics API")
        found: dict[str, int] = {}
        for item in items:
            used = [one for one in item.get("containers") or () if not container or one.get("name") == container]
            quantities = [(one.get("usage") or {}).get(resource) for one in used]
            if quantities and all(one is not None for one in quantities):
                found[name_of(item)] = sum(amount(resource, parse(one)) for one in quantities)
        return found

    async def custom_of_pods(self, metric: Obj, namespace: str, selector: str) -> dict[str, int]:
        """Returns a custom metric of each pod, in milli-units, by name."""
        resource = GVR(*_CUSTOM, f"pods/*/{metric['name']}")
        items = await self._list(resource, namespace, selector, "FailedGetPodsMetric", "custom metrics API")
        return {one["describedObject"]["name"]: parse(one["value"]).milli_value for one in items}

    async def custom_of_object(self, metric: Obj, namespace: str, resource: str, name: str) -> int:
        """Returns a custom metric of one object, in milli-units."""
        path = GVR(*_CUSTOM, f"{resource}/{name}/{metric['name']}")
        selector = _selector(metric)
        items = await self._list(path, namespace, selector, "FailedGetObjectMetric", "custom metrics API")
        if not items:
            raise NoMetrics("FailedGetObjectMetric", f"no metric {metric['name']} of {resource}/{name}")
        return parse(items[0]["value"]).milli_value

    async def external(self, metric: Obj, namespace: str) -> int:
        """Returns the sum of an external metric's values, in milli-units."""
        path = GVR(*_EXTERNAL, metric["name"])
        items = await self._list(path, namespace, _selector(metric), "FailedGetExternalMetric", "external metrics API")
        if not items:
            raise NoMetrics("FailedGetExternalMetric", f"no metric {metric['name']}")
        return sum(parse(one["value"]).milli_value for one in items)

    async def _list(self, resource: GVR, namespace: str, selector: str, reason: str, api: str) -> Sequence[Obj]:
        try:
            answer = await self._client.list(resource, namespace, ListOptions(label_selector=selector))
        except StatusError as error:
            raise NoMetrics(reason, f"unable to get metrics from the {api}: {error.message}") from error
        return answer.items


def _selector(metric: Obj) -> str:
    selector = metric.get("selector")
    return str(from_object(selector)) if selector else ""
