"""The resources of the group, in discovery order."""

from __future__ import annotations

from proa.apis.core.binding import BINDING
from proa.apis.core.component_status import COMPONENT_STATUS
from proa.apis.core.config_map import CONFIG_MAP
from proa.apis.core.endpoints import ENDPOINTS
from proa.apis.core.event import EVENT
from proa.apis.core.limit_range import LIMIT_RANGE
from proa.apis.core.namespace import NAMESPACE
from proa.apis.core.node import NODE
from proa.apis.core.persistent_volume import PERSISTENT_VOLUME
from proa.apis.core.persistent_volume_claim import PERSISTENT_VOLUME_CLAIM
from proa.apis.core.pod import POD
from proa.apis.core.pod_template import POD_TEMPLATE
from proa.apis.core.replication_controller import REPLICATION_CONTROLLER
from proa.apis.core.resource_quota import RESOURCE_QUOTA
from proa.apis.core.secret import SECRET
from proa.apis.core.service import SERVICE
from proa.apis.core.service_account import SERVICE_ACCOUNT
from proa.apis.registry import ResourceDef

RESOURCES: tuple[ResourceDef, ...] = (
    BINDING,
    COMPONENT_STATUS,
    CONFIG_MAP,
    ENDPOINTS,
    EVENT,
    LIMIT_RANGE,
    NAMESPACE,
    NODE,
    PERSISTENT_VOLUME_CLAIM,
    PERSISTENT_VOLUME,
    POD,
    POD_TEMPLATE,
    REPLICATION_CONTROLLER,
    RESOURCE_QUOTA,
    SECRET,
    SERVICE_ACCOUNT,
    SERVICE,
)
