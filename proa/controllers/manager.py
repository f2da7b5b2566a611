"""Builds and runs all controllers over one shared set of informers.

The same manager runs inside the control-plane process and in one of its own (`proa controller-manager`): only the
clients differ. `clients` for in-process use come from `proa.apiserver`'s Api and a service account's name.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Callable, Iterable

from proa.client.controller import Controller as AnyController
from proa.client.informer import SharedInformers
from proa.client.interface import Client, UserInfo
from proa.controllers.runtime import Context, Controller, Options
from proa.util.clock import Clock

log = logging.getLogger(__name__)

# Name -> class, imported when used, so that a process pays for what it runs.
CONTROLLERS: dict[str, str] = {
    "deployment": "proa.controllers.deployment.run:DeploymentController",
    "replicaset": "proa.controllers.replicaset.run:ReplicaSetController",
    "replicationcontroller": "proa.controllers.replicaset.run:ReplicationControllerController",
    "daemonset": "proa.controllers.daemonset.run:DaemonSetController",
    "statefulset": "proa.controllers.statefulset.run:StatefulSetController",
    "job": "proa.controllers.job.run:JobController",
    "cronjob": "proa.controllers.cronjob.run:CronJobController",
    "horizontalpodautoscaling": "proa.controllers.autoscaling.run:HorizontalPodAutoscalerController",
    "disruption": "proa.controllers.disruption.run:DisruptionController",
    "ttl-after-finished": "proa.controllers.ttlafterfinished.run:TtlAfterFinishedController",
    "persistentvolume-binder": "proa.controllers.volumes.binder:VolumeBinder",
    "persistentvolumeclaim-protection": "proa.controllers.volumes.protection:ClaimProtectionController",
    "persistentvolume-protection": "proa.controllers.volumes.protection:VolumeProtectionController",
    "persistentvolume-attach-detach": "proa.controllers.attachdetach.run:AttachDetachController",
    "persistentvolume-expander": "proa.controllers.volumes.expand:VolumeExpander",
    "volumeattributesclass-protection": "proa.controllers.volumes.protection:AttributesClassProtectionController",
    "resourceclaim": "proa.controllers.resourceclaim.run:PodClaimController",
    "resourceclaim-release": "proa.controllers.resourceclaim.run:ClaimReleaseController",
    "ephemeral-volume": "proa.controllers.volumes.ephemeral:EphemeralVolumeController",
    "certificatesigningrequest-approving": "proa.controllers.certificates.run:CertificateApprover",
    "certificatesigningrequest-signing": "proa.controllers.certificates.run:CertificateSigner",
    "certificatesigningrequest-cleaner": "proa.controllers.certificates.run:CertificateCleaner",
    "endpointslice": "proa.controllers.endpointslice.run:EndpointSliceController",
    "endpoints": "proa.controllers.endpoints.run:EndpointsController",
    "endpointslicemirroring": "proa.controllers.endpointslicemirroring.run:EndpointSliceMirroringController",
    "garbagecollector": "proa.controllers.garbage.run:GarbageCollector",
    "namespace": "proa.controllers.namespace.run:NamespaceController",
    "serviceaccount": "proa.controllers.serviceaccount.run:ServiceAccountController",
    "root-ca-certificate-publisher": "proa.controllers.serviceaccount.run:RootCaController",
    "clusterrole-aggregation": "proa.controllers.clusterrole.run:ClusterRoleAggregationController",
    "service-cidr-controller": "proa.controllers.servicecidrs.run:ServiceCidrController",
    "node-lifecycle": "proa.controllers.nodelifecycle.run:NodeLifecycleController",
    "taint-eviction": "proa.controllers.tainteviction.run:TaintEvictionController",
    "device-taint-eviction": "proa.controllers.devicetainteviction.run:DeviceTaintEvictionController",
    "ttl": "proa.controllers.nodettl.run:NodeTtlController",
    "token-cleaner": "proa.controllers.bootstraptokens.run:TokenCleaner",
    "node-ipam": "proa.controllers.nodeipam.run:NodeIpamController",
    "resourcequota": "proa.controllers.resourcequota.run:ResourceQuotaController",
    "validatingadmissionpolicy-status": "proa.controllers.policystatus.run:PolicyStatusController",
    "podgc": "proa.controllers.podgc.run:PodGarbageCollector",
}


def service_account(name: str) -> UserInfo:
    """Returns the identity of a controller's service account in kube-system."""
    groups = ("system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated")
    return UserInfo(f"system:serviceaccount:kube-system:{name}", groups)


def controller_class(name: str) -> type[Controller]:
    """Returns the class of a controller by its name in CONTROLLERS; raises KeyError."""
    module, _, attribute = CONTROLLERS[name].partition(":")
    found: type[Controller] = getattr(importlib.import_module(module), attribute)
    return found


class Manager:
    """`client_for(service account)` gives each controller its own identity; informers read as `informers.client`.

    `only`: names from CONTROLLERS to run, default all. `extra`: more classes, such as the cloud's.
    """

    def __init__(
        self,
        informers: SharedInformers,
        clock: Clock,
        client_for: Callable[[str], Client],
        options: Options | None = None,
        *,
        only: Iterable[str] | None = None,
        without: Iterable[str] = (),
        extra: Iterable[Callable[[Context], AnyController]] = (),
    ) -> None:
        self.informers = informers
        context = Context(informers=informers, clock=clock, client_for=client_for, options=options or Options())
        skipped = set(without)
        names = [name for name in (CONTROLLERS if only is None else only) if name not in skipped]
        makers: list[Callable[[Context], AnyController]] = [controller_class(name) for name in names]
        self.controllers = [make(context) for make in (*makers, *extra)]

    async def start(self) -> None:
        """Starts informers and controllers; returns at once, and each begins when its informers are synced."""
        await self.informers.start()
        for controller in self.controllers:
            await controller.start()

    async def stop(self) -> None:
        """Stops the controllers; the informers belong to the caller."""
        await asyncio.gather(*(controller.stop() for controller in self.controllers))

    @property
    def idle(self) -> bool:
        """True when no controller has anything queued or in work (what waits for its time does not count)."""
        return all(controller.queue.idle for controller in self.controllers)

    def metrics(self) -> dict[tuple[str, str], int]:
        """Returns counters and gauges by (metric, controller), as upstream's workqueue metrics name them."""
        found: dict[tuple[str, str], int] = {}
        for controller in self.controllers:
            found["workqueue_depth", controller.name] = len(controller.queue)
            found["workqueue_adds_total", controller.name] = controller.queue.adds
            found["workqueue_retries_total", controller.name] = controller.queue.retries
            for outcome, count in controller.outcomes.items():
                found[f"reconcile_{outcome}_total", controller.name] = count
        return found
