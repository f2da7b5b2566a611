"""serviceaccounts/token: issues a token for a service account, bound to a pod, secret or node if asked.

Follows upstream's TokenRequest, except that no token lives longer than an hour.
"""

from __future__ import annotations

from proa.apiserver.admission.noderestriction import check_token
from proa.apiserver.authn.tokens import ServiceAccountTokens
from proa.apiserver.live import Live
from proa.client.interface import ApiRequest
from proa.client.resources import NODES, PODS, SECRETS, SERVICEACCOUNTS
from proa.meta.errors import FieldError, bad_request, conflict, invalid, invalid_field, not_found
from proa.meta.gvk import GVK, GVR
from proa.meta.objects import Obj, uid_of
from proa.util.clock import Clock, rfc3339

SECONDS_MAX = 3600
_SECONDS_DEFAULT = 3600
_SECONDS_LEAST = 600
_KIND = GVK("authentication.k8s.io", "v1", "TokenRequest")
_BINDABLE: dict[str, tuple[GVR, bool]] = {"Pod": (PODS, True), "Secret": (SECRETS, True), "Node": (NODES, False)}


class TokenRequests:
    def __init__(self, tokens: ServiceAccountTokens, live: Live, clock: Clock) -> None:
        self._tokens = tokens
        self._live = live
        self._clock = clock

    async def create(self, request: ApiRequest) -> Obj:
        """Answers a TokenRequest; raises StatusErrors 400, 404, 409 and 422."""
        body = request.body or {}
        meta, spec = body.get("metadata") or {}, body.get("spec") or {}
        for key, value in (("name", request.name), ("namespace", request.namespace)):
            if meta.get(key) and meta[key] != value:
                raise bad_request(f"the {key} of the provided object does not match the {key} sent on the request")
        asked = spec.get("expirationSeconds")
        seconds = _SECONDS_DEFAULT if asked is None else asked
        _check_seconds(seconds)
        account = self._live.get(SERVICEACCOUNTS, request.name, request.namespace)
        if account is None:
            raise not_found(SERVICEACCOUNTS, request.name)
        reference = spec.get("boundObjectRef")
        bound = self._bound(request, reference) if reference else {}
        check_token(request.user, request.name, reference, bound.get("pod"))
        audiences = list(spec.get("audiences") or self._tokens.audiences)
        seconds = min(seconds, SECONDS_MAX)
        token, expires = self._tokens.issue(account, audiences, seconds, bound)
        return {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {
                "name": request.name,
                "namespace": request.namespace,
                "uid": uid_of(account),
                "creationTimestamp": rfc3339(self._clock.now()),
            },
            "spec": {"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": reference or None},
            "status": {"token": token, "expirationTimestamp": rfc3339(expires)},
        }

    def _bound(self, request: ApiRequest, reference: Obj) -> dict[str, Obj]:
        kind, api_version = reference.get("kind") or "", reference.get("apiVersion") or ""
        if kind not in _BINDABLE or api_version not in ("", "v1"):
            group_version = api_version if "/" in api_version else f"/{api_version}"
            raise bad_request(f"cannot bind token to object of type {group_version}, Kind={kind}")
        resource, namespaced = _BINDABLE[kind]
        name = reference.get("name") or ""
        found = self._live.get(resource, name, request.namespace if namespaced else "")
        if found is None:
            raise not_found(resource, name)
        uid = reference.get("uid")
        if uid and uid != uid_of(found):
            why = (
                f"the UID in the bound object reference ({uid}) does not match the UID in record. "
                "The object might have been deleted and then recreated"
            )
            raise conflict(GVR("", "", kind), name, why)
        bound = {kind.lower(): found}
        spec = found.get("spec") or {}
        if kind == "Pod":
            if spec.get("serviceAccountName") != request.name:
                whose = f'serviceaccount "{request.name}"'
                raise bad_request(f"cannot bind token for {whose} to pod running with different serviceaccount name.")
            node = self._live.get(NODES, spec["nodeName"]) if spec.get("nodeName") else None
            if node is not None:
                bound["node"] = node
        return bound


def _check_seconds(seconds: int) -> None:
    errors: list[FieldError] = []
    if seconds < _SECONDS_LEAST:
        text = "may not specify a duration less than 10 minutes"
        errors.append(invalid_field("spec.expirationSeconds", seconds, text))
    if seconds > 1 << 32:
        text = "may not specify a duration larger than 2^32 seconds"
        errors.append(invalid_field("spec.expirationSeconds", seconds, text))
    if errors:
        raise invalid(_KIND, "", errors)
