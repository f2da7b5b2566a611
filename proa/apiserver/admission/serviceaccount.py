"""ServiceAccount: every pod gets an account that exists, its pull secrets, and a volume with a token.

Follows upstream's plugin with bound tokens: the volume is projected from token, root certificate and namespace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from proa.apis.podspec.known import TOKEN_VOLUME
from proa.apiserver.admission.base import Plugin, concerns, containers_of, is_mirror, refusal
from proa.apiserver.contracts import AdmissionRequest
from proa.apiserver.live import Live
from proa.client.resources import SERVICEACCOUNTS
from proa.meta.objects import Obj, annotations_of, copy_object

MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
_ENFORCE = "kubernetes.io/enforce-mountable-secrets"
# 7 seconds above the hour tell old client libraries' tokens from those that are asked for explicitly.
_TOKEN_SECONDS = 3607


class ServiceAccount(Plugin):
    """`suffix` returns five random letters."""

    name = "ServiceAccount"
    resources = frozenset({("", "pods")})

    def __init__(self, live: Live, suffix: Callable[[], str]) -> None:
        self._live = live
        self._suffix = suffix

    async def mutate(self, request: AdmissionRequest) -> None:
        if not concerns(request, "pods", "CREATE") or request.obj is None:
            return
        spec = request.obj.setdefault("spec", {})
        if is_mirror(request.obj):
            _check_mirror(request, spec)
            return
        spec["serviceAccountName"] = name = spec.get("serviceAccountName") or "default"
        spec["serviceAccount"] = name
        account = self._live.get(SERVICEACCOUNTS, name, request.namespace)
        if account is None:
            where = f"{request.namespace}/{name}"
            raise refusal(request, f'error looking up service account {where}: serviceaccount "{name}" not found')
        if _automounts(spec, account):
            self._mount_token(spec)
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = copy_object(account["imagePullSecrets"])
        if annotations_of(account).get(_ENFORCE) == "true":
            _check_references(request, spec, account)

    def _mount_token(self, spec: Obj) -> None:
        volumes = spec.get("volumes") or []
        existing = next((one["name"] for one in volumes if (one.get("name") or "").startswith(TOKEN_VOLUME)), "")
        name = existing or TOKEN_VOLUME + self._suffix()
        mounted = False
        for container in containers_of(spec):
            mounts = container.get("volumeMounts") or []
            if not any(mount.get("mountPath") == MOUNT_PATH for mount in mounts):
                container["volumeMounts"] = [*mounts, {"name": name, "readOnly": True, "mountPath": MOUNT_PATH}]
                mounted = True
        if mounted and not existing:
            spec["volumes"] = [*volumes, _token_volume(name)]


def _token_volume(name: str) -> Obj:
    namespace = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    certificate = {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    sources = [
        {"serviceAccountToken": {"expirationSeconds": _TOKEN_SECONDS, "path": "token"}},
        {"configMap": certificate},
        {"downwardAPI": {"items": [namespace]}},
    ]
    return {"name": name, "projected": {"sources": sources, "defaultMode": 0o644}}


def _automounts(spec: Obj, account: Obj) -> bool:
    for holder in (spec, account):
        if holder.get("automountServiceAccountToken") is not None:
            return bool(holder["automountServiceAccountToken"])
    return True


def _check_mirror(request: AdmissionRequest, spec: Obj) -> None:
    if spec.get("serviceAccountName"):
        raise refusal(request, "a mirror pod may not reference service accounts")
    if any(True for _ in _secrets(spec)):
        raise refusal(request, "a mirror pod may not reference secrets")
    for volume in spec.get("volumes") or ():
        for source in (volume.get("projected") or {}).get("sources") or ():
            if "serviceAccountToken" in source:
                raise refusal(request, "a mirror pod may not use serviceAccountToken volume projections")


def _secrets(spec: Obj) -> Iterator[str]:
    """Yields the names of the secrets in volumes and environment."""
    for volume in spec.get("volumes") or ():
        if "secret" in volume:
            yield volume["secret"].get("secretName") or ""
    for container in containers_of(spec, ephemeral=True):
        for one in container.get("env") or ():
            if reference := (one.get("valueFrom") or {}).get("secretKeyRef"):
                yield reference.get("name") or ""
        for one in container.get("envFrom") or ():
            if reference := one.get("secretRef"):
                yield reference.get("name") or ""


def _check_references(request: AdmissionRequest, spec: Obj, account: Obj) -> None:
    allowed = {one.get("name") for one in account.get("secrets") or ()}
    name = spec["serviceAccountName"]
    for secret in _secrets(spec):
        if secret not in allowed:
            raise refusal(
                request, f'secret "{secret}" is not allowed because service account {name} does not reference it'
            )
    pull = {one.get("name") for one in account.get("imagePullSecrets") or ()}
    for one in spec.get("imagePullSecrets") or ():
        if one.get("name") not in pull:
            why = f"is not allowed because service account {name} does not reference it"
            raise refusal(request, f'imagePullSecret "{one.get("name")}" {why}')
