"""The resources of storage.k8s.io, in discovery order."""

from __future__ import annotations

from proa.apis.registry import ResourceDef
from proa.apis.storage.csi_driver import CSI_DRIVER
from proa.apis.storage.csi_node import CSI_NODE
from proa.apis.storage.csi_storage_capacity import CSI_STORAGE_CAPACITY
from proa.apis.storage.storage_class import STORAGE_CLASS
from proa.apis.storage.volume_attachment import VOLUME_ATTACHMENT
from proa.apis.storage.volume_attributes_class import VOLUME_ATTRIBUTES_CLASS

RESOURCES: tuple[ResourceDef, ...] = (
    CSI_DRIVER,
    CSI_NODE,
    CSI_STORAGE_CAPACITY,
    STORAGE_CLASS,
    VOLUME_ATTACHMENT,
    VOLUME_ATTRIBUTES_CLASS,
)
