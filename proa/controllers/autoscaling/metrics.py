"""Reads metrics: of pods from metrics.k8s.io, of anything else from the custom and external metrics APIs.

These three APIs are served by whoever is registered for them; the errors are worded as upstream's clients word them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from proa.client.interface import Client, ListOptions
from proa.controllers.autoscaling.plan import NoMetrics, Sample
from proa.meta.errors import StatusError
from proa.meta.gvk import GVR
from proa.meta.objects import Obj, name_of
from proa.meta.quantity import parse
from proa.meta.selectors import from_object
from proa.util.clock import parse_rfc3339

POD_METRICS = GVR("metrics.k8s.io", "v1beta1", "pods")
_CUSTOM = "custom.metrics.k8s.io"
_CUSTOM_VERSIONS = ("v1beta2", "v1beta1")
_EXTERNAL = ("external.metrics.k8s.io", "v1beta1")
_NOT_SERVED = "the server could not find the requested resource"
_WINDOW_SECONDS = 60.0  # of metrics that don't tell
_UNIT_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


class Metrics:
    """The metrics APIs as one client sees them; every method raises NoMetrics."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._custom_version = ""

    async def of_pods(self, resource: str, namespace: str, selector: str, container: str = "") -> dict[str, Sample]:
        """Returns what each pod (or one container of it) uses of a resource, by name."""
        try:
            answer = await self._client.list(POD_METRICS, namespace, ListOptions(label_selector=selector))
        except StatusError as error:
            text = _message(error, POD_METRICS)
            raise NoMetrics(f"unable to fetch metrics from resource metrics API: {text}") from error
        if not answer.items:
            raise NoMetrics("no metrics returned from resource metrics API")
        found: dict[str, Sample] = {}
        for item in answer.items:
            listed = item.get("containers") or ()
            used = [one for one in listed if not container or one.get("name") == container]
            if container and not used:
                text = f"container {container} not present in metrics for pod {namespace}/{name_of(item)}"
                raise NoMetrics(text)
            quantities = [(one.get("usage") or {}).get(resource) for one in used]
            if quantities and all(one is not None for one in quantities):
                found[name_of(item)] = _sample(item, sum(parse(one).milli_value for one in quantities))
        return found

    async def custom_of_pods(self, metric: Obj, namespace: str, selector: str) -> dict[str, Sample]:
        """Returns a custom metric of each pod, by name."""
        items = await self._custom("pods", "*", namespace, metric, {"labelSelector": selector})
        if not items:
            raise NoMetrics("no metrics returned from custom metrics API")
        return {one["describedObject"]["name"]: _sample(one, parse(one["value"]).milli_value) for one in items}

    async def custom_of_object(self, metric: Obj, namespace: str, resource: str, name: str) -> int:
        """Returns a custom metric of one object, in milli-units. `resource` is like `ingresses.networking.k8s.io`."""
        items = await self._custom(resource, name, namespace, metric, {})
        if len(items) != 1:
            text = f"the custom metrics API server returned {len(items)} results when we asked for exactly one"
            raise NoMetrics(f"unable to fetch metrics from custom metrics API: {text}")
        return parse(items[0]["value"]).milli_value

    async def external(self, metric: Obj, namespace: str) -> int:
        """Returns the sum of an external metric's values, in milli-units."""
        resource = GVR(*_EXTERNAL, metric["name"])
        options = ListOptions(label_selector=_selector(metric))
        try:
            answer = await self._client.list(resource, namespace, options)
        except StatusError as error:
            text = _message(error, resource)
            raise NoMetrics(f"unable to fetch metrics from external metrics API: {text}") from error
        if not answer.items:
            raise NoMetrics("no metrics returned from external metrics API")
        return sum(parse(one["value"]).milli_value for one in answer.items)

    async def _custom(
        self, resource: str, name: str, namespace: str, metric: Obj, parameters: Mapping[str, str]
    ) -> Sequence[Obj]:
        """Reads a metric of `name`, or of all (`*`) that a selector admits. Namespaces have a path of their own."""
        selector = _selector(metric)
        asked = {**parameters, "metricLabelSelector": selector} if selector else dict(parameters)
        try:
            version = await self._version()
            if resource == "namespaces":
                path, found = GVR(_CUSTOM, version, "metrics"), (metric["name"], name, "")
            else:
                path, found = GVR(_CUSTOM, version, resource), (name, namespace, metric["name"])
            answer = await self._client.get(path, found[0], found[1], subresource=found[2], parameters=asked)
        except StatusError as error:
            if error.message == _NOT_SERVED:
                self._custom_version = ""
            text = _message(error, GVR(_CUSTOM, "", resource))
            raise NoMetrics(f"unable to fetch metrics from custom metrics API: {text}") from error
        return answer.get("items") or ()

    async def _version(self) -> str:
        """Returns the best version that somebody serves; raises StatusError, or NoMetrics if nobody does."""
        if self._custom_version:
            return self._custom_version
        for version in _CUSTOM_VERSIONS:
            try:
                await self._client.resource_list(_CUSTOM, version)
            except StatusError as error:
                if error.code != 404:
                    raise
            else:
                self._custom_version = version
                return version
        text = f"no custom metrics API ({_CUSTOM}) registered"
        raise NoMetrics(f"unable to fetch metrics from custom metrics API: {text}")


def _message(error: StatusError, resource: GVR) -> str:
    """Returns an error's text; clients add what was asked for where the server's answer does not name it."""
    return f"{error.message} (get {resource.group_resource})" if error.message == _NOT_SERVED else error.message


def _selector(metric: Obj) -> str:
    selector = metric.get("selector")
    return str(from_object(selector)) if selector else ""


def _sample(item: Obj, value: int) -> Sample:
    stamp = item.get("timestamp")
    seconds = item.get("windowSeconds")
    if seconds is None and item.get("window"):
        parts = re.findall(r"([0-9.]+)(h|ms|m|s|us|µs|ns)", item["window"])
        seconds = sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)
    return Sample(value, parse_rfc3339(stamp) if stamp else None, _WINDOW_SECONDS if seconds is None else seconds)
