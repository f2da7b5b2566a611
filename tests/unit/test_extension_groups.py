"""The kinds outside the core and workload groups do as upstream: recorded writes, replayed through their strategies."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from proa.apis.all import BY_GVR
from proa.meta.gvk import GVR
from tests.recorded import load
from tests.unit.strategy_replay import replay

GROUPS = {
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "certificates.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
}
SERVER = "is the server's part, not the strategy's"
KNOWN = {
    "custom-resources/life-and-validation[51]": SERVER,
    "custom-resources/life-and-validation[73]": SERVER,
    "custom-resources/versions[12]": SERVER,
    "custom-resources/cluster-scoped-and-selectable[5]": SERVER,
}
# How many steps each theme has at least; fewer would mean that the replay lost some.
THEMES = {
    "defaulting": 70,
    "validation": 170,
    "updates": 40,
    "certificates": 20,
    "admission-policies": 18,
    "custom-resources": 140,
}


@pytest.mark.parametrize("theme", THEMES)
def test_recorded_writes(theme: str) -> None:
    outcomes = [one for one in replay(theme, GROUPS) if one.replayed]
    assert len(outcomes) >= THEMES[theme]
    failed = {one.name: one.problem for one in outcomes if one.problem}
    assert {name: problem for name, problem in failed.items() if name not in KNOWN} == {}
    mended = {name for name in KNOWN if name.startswith(f"{theme}/") and name not in failed}
    assert not mended, "these pass now: take them out of KNOWN"


def rows() -> list[Any]:
    """Recorded rows of one object each: (resource, object, cells), where the recording has both."""
    found = []
    for theme in ("tables", "certificates"):
        for sequence in load(f"exchanges/{theme}.json"):
            objects: dict[str, Any] = {}
            for step in sequence["steps"]:
                body = step["response"].get("body") or {}
                path = step["request"]["path"].partition("?")[0]
                if step["request"]["method"] == "POST" and "kind" in (step["request"].get("body") or {}):
                    objects[path] = step
                elif isinstance(body, dict) and body.get("kind") == "Table" and len(body.get("rows") or ()) == 1:
                    created = next((objects[known] for known in objects if path.startswith(known)), None)
                    if created is not None:
                        found.append((path, created["request"]["body"], body["rows"][0]["cells"]))
    return found


def test_cells() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    seen = set()
    for path, body, expected in rows():
        parts = path.strip("/").split("/")
        group, version = ("", parts[1]) if parts[0] == "api" else (parts[1], parts[2])
        plural = parts[-2] if parts[-1] == body["metadata"]["name"] else parts[-1]
        resource = BY_GVR.get(GVR(group, version, plural))
        if resource is None or resource.group not in GROUPS or resource.kind == "CertificateSigningRequest":
            continue
        obj = json.loads(json.dumps(body))
        resource.strategy.default(obj)
        resource.strategy.prepare_create(obj)
        obj["metadata"]["creationTimestamp"] = "2025-12-31T23:59:00Z"
        assert resource.cells is not None
        cells = ["<age>" if cell == "60s" else cell for cell in resource.cells(obj, now)]
        cells = ["<time>" if cell == "2025-12-31T23:59:00Z" else cell for cell in cells]
        if resource.kind == "FlowSchema":
            cells[-1] = "False"  # a controller says whether its priority level is missing
        assert cells == expected, path
        seen.add(resource.kind)
    assert len(seen) > 20
