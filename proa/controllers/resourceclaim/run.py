"""Carries out what pods and their resource claims need."""

from __future__ import annotations

from collections.abc import Iterable

from proa.apis.resource.resource_claim import FINALIZER
from proa.client.interface import DeleteOptions
from proa.client.resources import PODS, RESOURCECLAIMS, RESOURCECLAIMTEMPLATES
from proa.controllers.ownership import CONTROLLER_INDEX, by_controller
from proa.controllers.pods import is_finished
from proa.controllers.resourceclaim.plan import claim_from, needs_claims, plan_claim, plan_pod, pods_of
from proa.controllers.runtime import Context, Controller, Result, ignore_absent
from proa.meta.errors import StatusError
from proa.meta.objects import (
    Obj,
    controller_of,
    is_deleted,
    key_of,
    metadata,
    name_of,
    namespace_of,
    split_key,
    uid_of,
)

_ACCOUNT = "resource-claim-controller"


class PodClaimController(Controller):
    """Makes claims from templates and tells each pod the names of its claims."""

    name = "resource-claim-controller"
    service_account = _ACCOUNT
    event_source = "resource_claim"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._claims = self.watch(RESOURCECLAIMS, _key_of_owner)
        self._claims.add_index(CONTROLLER_INDEX, by_controller)
        self._pods = self.watch(
            PODS, lambda pod: (key_of(pod),) if needs_claims(pod) else (), relevant=lambda pod: is_deleted(pod)
        )
        self._templates = self.watch(RESOURCECLAIMTEMPLATES, self._keys_of_template)

    def _keys_of_template(self, template: Obj) -> Iterable[str]:
        for pod in self._pods.objects(namespace_of(template)):
            if needs_claims(pod):
                yield key_of(pod)

    async def reconcile(self, key: str) -> Result | None:
        namespace, name = split_key(key)
        pod = self._pods.get(name, namespace)
        if pod is None:
            return None
        step = plan_pod(pod, self._claims.indexed(CONTROLLER_INDEX, uid_of(pod)))
        statuses = list(step.statuses)
        for claim, template in step.create:
            made = await self._create(pod, claim, template)
            statuses.append({"name": claim, "resourceClaimName": name_of(made)})
        if statuses and statuses != ((pod.get("status") or {}).get("resourceClaimStatuses") or []):
            patch = {"metadata": {"uid": uid_of(pod)}, "status": {"resourceClaimStatuses": statuses}}
            await ignore_absent(self.client.patch(PODS, name, patch, namespace, subresource="status"))
        return None

    async def _create(self, pod: Obj, claim: str, template: str) -> Obj:
        namespace = namespace_of(pod)
        try:
            found = self._templates.get(template, namespace)
            if found is None:
                raise StatusError(404, "NotFound", f'resourceclaimtemplate.resource.k8s.io "{template}" not found')
            return await self.client.create(RESOURCECLAIMS, claim_from(pod, claim, found), namespace)
        except StatusError as error:
            text = f"PodResourceClaim {claim}: resource claim template {template!r}: {error}"
            self.events.event(pod, "Warning", "FailedResourceClaimCreation", text)
            raise


class ClaimReleaseController(Controller):
    """Gives back the claims of pods that are done."""

    name = "resource-claim-release-controller"
    service_account = _ACCOUNT

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._claims = self.watch(RESOURCECLAIMS)
        self._pods = self.watch(PODS, self._keys_of_pod, relevant=lambda pod: (is_deleted(pod), is_finished(pod)))

    def _keys_of_pod(self, pod: Obj) -> Iterable[str]:
        namespace = namespace_of(pod)
        names = {one.get("resourceClaimName") for one in (pod.get("spec") or {}).get("resourceClaims") or ()}
        names |= {one.get("resourceClaimName") for one in (pod.get("status") or {}).get("resourceClaimStatuses") or ()}
        names.add(((pod.get("status") or {}).get("extendedResourceClaimStatus") or {}).get("resourceClaimName"))
        return [f"{namespace}/{name}" for name in names if name]

    async def reconcile(self, key: str) -> Result | None:
        namespace, name = split_key(key)
        claim = self._claims.get(name, namespace)
        if claim is None:
            return None
        pods = {user: await self._pod(user, uid, namespace) for user, uid in pods_of(claim).items()}
        step = plan_claim(claim, pods.get)
        if step.status is not None:
            claim = await self.client.update(RESOURCECLAIMS, {**claim, "status": step.status}, subresource="status")
        if step.release:
            kept = [one for one in metadata(claim).get("finalizers") or () if one != FINALIZER]
            meta = {**metadata(claim), "finalizers": kept}
            claim = await self.client.update(RESOURCECLAIMS, {**claim, "metadata": meta})
        if step.delete:
            options = DeleteOptions(uid=uid_of(claim))
            await ignore_absent(self.client.delete(RESOURCECLAIMS, name, namespace, options))
        return None

    async def _pod(self, name: str, uid: str, namespace: str) -> Obj | None:
        """Returns a pod; one that the informer does not know is asked for, lest a claim be taken from a new pod."""
        known = self._pods.get(name, namespace)
        if known is not None and uid_of(known) == uid:
            return known
        try:
            return await self.client.get(PODS, name, namespace)
        except StatusError as error:
            if error.code == 404:
                return None
            raise


def _key_of_owner(claim: Obj) -> Iterable[str]:
    owner = controller_of(claim)
    return (f"{namespace_of(claim)}/{owner['name']}",) if owner and owner.get("kind") == "Pod" else ()
