"""The resources of the group, in discovery order."""

from __future__ import annotations

from proa.apis.apps.controller_revision import CONTROLLER_REVISION
from proa.apis.apps.daemon_set import DAEMON_SET
from proa.apis.apps.deployment import DEPLOYMENT
from proa.apis.apps.replica_set import REPLICA_SET
from proa.apis.apps.stateful_set import STATEFUL_SET
from proa.apis.registry import ResourceDef

RESOURCES: tuple[ResourceDef, ...] = (
    CONTROLLER_REVISION,
    DAEMON_SET,
    DEPLOYMENT,
    REPLICA_SET,
    STATEFUL_SET,
)
