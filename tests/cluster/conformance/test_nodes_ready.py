"""What the suite as a whole needs: nodes for pods to move between."""

from __future__ import annotations

import pytest

from tests.cluster.conformance.conftest import Api
from tests.cluster.conformance.objects import is_ready

pytestmark = pytest.mark.cluster


@pytest.mark.behaviour("[sig-architecture] Conformance Tests should have at least two untainted nodes")
def test_two_untainted_nodes(api: Api) -> None:
    nodes = api.get("/api/v1/nodes").ok()["items"]
    usable = [
        one
        for one in nodes
        if is_ready(one)
        and not one["spec"].get("unschedulable")
        and not any(taint["effect"] in ("NoSchedule", "NoExecute") for taint in one["spec"].get("taints", ()))
    ]
    assert len(usable) >= 2
