"""The CNI configuration of a node: the reference plugins bridge, host-local, portmap and loopback.

Follows the CNI specification 1.0.0. Pods get addresses of the node's range on its bridge; masquerading is left
to the node's own rules (`network/rules.py`), because the bridge plugin would hide pods from each other across nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

BRIDGE = "cni0"
FILE_NAME = "10-proa.conflist"


def conflist(name: str, pod_ranges: Sequence[str], state: Path) -> dict[str, Any]:
    """Returns the configuration for a node whose pods get addresses from `pod_ranges` (one per address family).

    `name` must be unique on the machine: CNI keeps results under it. Leases are kept in `state`.
    """
    destinations = ["::/0" if ":" in one else "0.0.0.0/0" for one in pod_ranges]
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(state),
            "ranges": [[{"subnet": one}] for one in pod_ranges],
            "routes": [{"dst": one} for one in destinations],
        },
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}
    return {"cniVersion": "1.0.0", "name": name, "plugins": [bridge, portmap]}


def render(name: str, pod_ranges: Sequence[str], state: Path) -> bytes:
    """Returns the file's content; the loopback device is set up by the container runtime itself."""
    return msgspec.json.format(msgspec.json.encode(conflist(name, pod_ranges, state)), indent=2) + b"\n"
