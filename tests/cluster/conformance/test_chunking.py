"""Lists in chunks: limit, continue, remaining items, one revision for all pages."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from proa.testing import Cluster
from tests.cluster.conformance.conftest import Api
from tests.cluster.conformance.objects import core

pytestmark = pytest.mark.cluster

TOTAL = 400


def make_templates(api: Api, namespace: str) -> str:
    """Creates many pod templates; returns the path of their collection."""
    path = core(namespace, "podtemplates")

    def create(number: int) -> None:
        template = {"spec": {"containers": [{"name": "test", "image": "test2"}]}}
        api.post(path, {"metadata": {"name": f"template-{number:04}"}, "template": template}).ok()

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(create, range(TOTAL)))
    return path


def names(listed: dict[str, Any]) -> list[str]:
    return [item["metadata"]["name"] for item in listed["items"]]


def check(listed: dict[str, Any], found: int, limit: int) -> None:
    """A page may not be larger than `limit`, continues after the `found` objects before it, and tells what remains."""
    assert 0 < len(listed["items"]) <= limit
    assert names(listed) == [f"template-{found + number:04}" for number in range(len(listed["items"]))]
    meta = listed["metadata"]
    if meta.get("continue"):
        assert meta["remainingItemCount"] == TOTAL - found - len(listed["items"])
    else:
        assert "remainingItemCount" not in meta and found + len(listed["items"]) == TOTAL


@pytest.mark.behaviour(
    "[sig-api-machinery] Servers with support for API chunking should return chunks of results for list calls"
)
def test_chunks(api: Api, namespace: str) -> None:
    path = make_templates(api, namespace)
    seeded = random.Random(400)
    for _ in range(3):
        found, token, versions = 0, "", set()
        while True:
            limit = seeded.randint(1, TOTAL // 10)
            listed = api.get(f"{path}?limit={limit}&continue={token}").ok()
            check(listed, found, limit)
            found += len(listed["items"])
            versions.add(listed["metadata"]["resourceVersion"])
            token = listed["metadata"].get("continue", "")
            if not token:
                break
        assert found == TOTAL and len(versions) == 1
    assert len(api.get(f"{path}?limit={TOTAL + 1}").ok()["items"]) == TOTAL
    assert len(api.get(path).ok()["items"]) == TOTAL


@pytest.fixture
def aging() -> Iterator[Cluster]:
    """An API server whose time the test advances: no test waits ten minutes for a compaction."""
    with Cluster(nodes=0, controllers=False, https=True) as cluster:
        yield cluster


@pytest.mark.behaviour(
    "[sig-api-machinery] Servers with support for API chunking should support continue listing from the last key if "
    "the original version has been compacted away, though the list is inconsistent [Slow]"
)
def test_continue_after_compaction(aging: Cluster) -> None:
    assert aging.kubeconfig is not None
    api = Api(aging.kubeconfig)
    path = make_templates(api, "default")
    limit = TOTAL // 10
    first = api.get(f"{path}?limit={limit}").ok()
    check(first, 0, limit)
    target = f"{path}?limit={limit}&continue={first['metadata']['continue']}"
    check(api.get(target).ok(), limit, limit)
    # A write makes the revision of the first page one that can be compacted away.
    api.post(core("default", "configmaps"), {"metadata": {"name": "later"}}).ok()
    aging.advance(minutes=15)
    expired = api.get(target).failed(410, "Expired")
    token = expired["metadata"]["continue"]
    second = api.get(f"{path}?limit={limit}&continue={token}").ok()
    version = second["metadata"]["resourceVersion"]
    assert version != first["metadata"]["resourceVersion"] and len(second["items"]) == limit
    found, listed = limit, second
    while True:
        check(listed, found, limit)
        assert listed["metadata"]["resourceVersion"] == version
        found += len(listed["items"])
        if not listed["metadata"].get("continue"):
            break
        listed = api.get(f"{path}?limit={limit}&continue={listed['metadata']['continue']}").ok()
    assert found == TOTAL
