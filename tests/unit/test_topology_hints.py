"""Zone hints in proportion to the CPU of zones."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from proa.controllers.endpointslice.topology import assign, is_wanted, shares
from proa.meta.objects import Obj


def node(zone: str, cpu: str = "2", *, ready: bool = True, **labels: str) -> Obj:
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    named = {**({"topology.kubernetes.io/zone": zone} if zone else {}), **labels}
    return {"metadata": {"labels": named}, "status": {"conditions": conditions, "allocatable": {"cpu": cpu}}}


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([], {}),
        ([node("a"), node("b")], {"a": 0.5, "b": 0.5}),
        ([node("a", "3"), node("b", "500m"), node("b", "500m")], {"a": 0.75, "b": 0.25}),
        ([node("a"), node("b", ready=False)], {"a": 1.0}),
        ([node("a"), node("")], {}),
        ([node("a"), node("b", "0")], {}),
        ([node("a"), node("b", **{"node-role.kubernetes.io/control-plane": ""})], {"a": 1.0}),
    ],
)
def test_shares(nodes: list[Obj], expected: dict[str, float]) -> None:
    assert shares(nodes) == expected


EVEN = {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}


@pytest.mark.parametrize(
    ("zones", "share", "expected"),
    [
        ("abc", EVEN, "abc"),
        ("aabbcc", EVEN, "aabbcc"),
        ("aaaa" + "b" + "c", EVEN, {"a": 2, "b": 2, "c": 2}),
        ("aaa", EVEN, {"a": 1, "b": 1, "c": 1}),
        ("ab", {"a": 0.5, "b": 0.5}, "ab"),
        # A zone that has no nodes any more gives all its endpoints away.
        ("abzz", {"a": 0.5, "b": 0.5}, {"a": 2, "b": 2}),
        ("aaab", {"a": 0.75, "b": 0.25}, "aaab"),
        ("aaaaab", {"a": 0.75, "b": 0.25}, {"a": 4, "b": 2}),
    ],
)
def test_hints(zones: str, share: dict[str, float], expected: Any) -> None:
    found = assign(list(zones), [True] * len(zones), share)
    assert not found.refused
    if isinstance(expected, str):
        assert "".join(found.zones) == expected
    else:
        assert Counter(found.zones) == expected


@pytest.mark.parametrize(
    ("zones", "ready", "share", "why"),
    [
        (["a", "b"], [True, True], {}, "Insufficient Node information"),
        (["a", "b"], [True, True], {"a": 1.0}, "Nodes only ready in one zone"),
        (["a", "b"], [True, True], EVEN, "Insufficient number of endpoints (2 endpoints, 3 zones)"),
        (["a", "b", "c"], [True, True, False], EVEN, "Insufficient number of endpoints (2 endpoints, 3 zones)"),
        (["a", "b", None], [True] * 3, EVEN, "One or more endpoints do not have a zone specified"),
        (
            ["a", "b", "b"],
            [True] * 3,
            {"a": 0.5, "b": 0.5},
            "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold "
            "(3 endpoints, 2 zones)",
        ),
    ],
)
def test_what_cannot_be_hinted(zones: list[str | None], ready: list[bool], share: dict[str, float], why: str) -> None:
    found = assign(zones, ready, share)
    assert found.refused.startswith(why) and not any(found.zones)


def test_what_is_not_ready_has_no_hint() -> None:
    assert assign(["a", "b", "b"], [True, True, False], {"a": 0.5, "b": 0.5}).zones == ["a", "b", ""]


@pytest.mark.parametrize("name", ["topology-mode", "topology-aware-hints"])
@pytest.mark.parametrize(("mode", "expected"), [("Auto", True), ("auto", True), ("Disabled", False), ("AUTO", False)])
def test_who_asks_for_hints(name: str, mode: str, expected: bool) -> None:
    assert is_wanted({"metadata": {"annotations": {f"service.kubernetes.io/{name}": mode}}}) == expected
    assert not is_wanted({"metadata": {}})
