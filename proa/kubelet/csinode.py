"""The node's CSINode object, which upstream's kubelet makes even where no driver runs."""

from __future__ import annotations

import asyncio
import logging

from proa.client.interface import Client
from proa.client.resources import CSINODES
from proa.meta.errors import StatusError
from proa.meta.objects import Obj, name_of, uid_of

log = logging.getLogger(__name__)

_RETRY_SECONDS = 5.0
# The plugins that upstream has moved to CSI drivers, all of them for good.
_MIGRATED = ("aws-ebs", "azure-disk", "azure-file", "cinder", "gce-pd", "portworx-volume", "vsphere-volume")


def csi_node(node: Obj) -> Obj:
    """Returns the CSINode of a node on which no driver runs."""
    migrated = ",".join(f"kubernetes.io/{one}" for one in _MIGRATED)
    owner = {"apiVersion": "v1", "kind": "Node", "name": name_of(node), "uid": uid_of(node)}
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSINode",
        "metadata": {
            "name": name_of(node),
            "annotations": {"storage.alpha.kubernetes.io/migrated-plugins": migrated},
            "ownerReferences": [owner],
        },
        "spec": {"drivers": []},
    }


async def ensure(client: Client, node: Obj) -> None:
    """Creates the CSINode unless there is one; tries until the API answers."""
    told = ""
    while True:
        try:
            await client.create(CSINODES, csi_node(node))
            return
        except (StatusError, OSError, EOFError) as error:
            if isinstance(error, StatusError) and error.reason == "AlreadyExists":
                return
            if str(error) != told:
                log.warning("CSINode %s: %s", name_of(node), error)
            told = str(error)
        await asyncio.sleep(_RETRY_SECONDS)
