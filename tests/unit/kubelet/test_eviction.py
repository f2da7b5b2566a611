"""Which pods must leave a node."""

from __future__ import annotations

from typing import Any

import pytest

from proa.kubelet.eviction import LocalUse, first_to_go, is_limited, over_limit

from .shapes import pod

MIB = 1024**2


def limited(size: str) -> dict[str, Any]:
    return {"resources": {"limits": {"ephemeral-storage": size}}}


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (LocalUse({"v": 2 * MIB}, {}), None),
        (LocalUse({"v": 2 * MIB + 1}, {}), 'Usage of EmptyDir volume "v" exceeds the limit "2Mi". '),
        (LocalUse({}, {"a": 4 * MIB}), 'Container a exceeded its local ephemeral storage limit "3Mi". '),
        (
            LocalUse({"v": 2 * MIB}, {"a": 2 * MIB}),
            f"Pod ephemeral local storage usage exceeds the total limit of containers {3 * MIB}. ",
        ),
    ],
)
def test_limits_of_local_storage(use: LocalUse, message: str | None) -> None:
    of = pod({"name": "a", **limited("3Mi")}, volumes=[{"name": "v", "emptyDir": {"sizeLimit": "2Mi"}}])
    assert over_limit(of, use) == message


def test_only_limited_pods_are_measured() -> None:
    assert is_limited(pod({"name": "a", **limited("1Mi")}))
    assert is_limited(pod("a", volumes=[{"name": "v", "emptyDir": {"sizeLimit": "2Mi"}}]))
    assert not is_limited(pod("a", volumes=[{"name": "v", "emptyDir": {}}]))
    assert not is_limited(pod("a", volumes=[{"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "2Mi"}}]))


def test_who_goes_first_when_memory_is_short() -> None:
    def asks(uid: str, memory: str, priority: int = 0) -> dict[str, Any]:
        return pod({"name": "a", "resources": {"requests": {"memory": memory}}}, meta={"uid": uid}, priority=priority)

    within = asks("within", "9Gi")
    over, far_over = asks("over", "1Mi"), asks("far", "1Mi")
    important = asks("important", "1Mi", 10)
    use = {"within": 1024 * MIB, "over": 10 * MIB, "far": 20 * MIB, "important": 500 * MIB}
    assert first_to_go([within, over, far_over, important], use) is far_over
    assert first_to_go([within, important], use) is important
    assert first_to_go([within, asks("system", "1Mi", 2_000_001_000)], use) is within
    assert first_to_go([], use) is None
