"""The informer's cache: handlers see each change once, indexes follow, a relist finds what vanished."""

from __future__ import annotations

from typing import Any

from proa.client.informer import CachedInformer
from proa.meta.objects import Obj


def pod(name: str, version: int, node: str = "", *, namespace: str = "ns", uid: str = "") -> Obj:
    meta: dict[str, Any] = {
        "name": name,
        "namespace": namespace,
        "resourceVersion": str(version),
        "uid": uid or f"uid-{name}",
    }
    return {"kind": "Pod", "metadata": meta, "spec": {"nodeName": node}}


def by_node(obj: Obj) -> list[str]:
    return [obj["spec"]["nodeName"]] if obj["spec"]["nodeName"] else []


def recorded(informer: CachedInformer) -> list[tuple[str | None, str | None]]:
    calls: list[tuple[str | None, str | None]] = []

    def handler(old: Obj | None, new: Obj | None) -> None:
        calls.append(
            (old and old["metadata"]["resourceVersion"], new and new["metadata"]["resourceVersion"])  # type: ignore[arg-type]
        )

    informer.add_handler(handler)
    return calls


def test_handlers_see_what_is_there_and_each_change() -> None:
    informer = CachedInformer()
    informer.put(pod("a", 1))
    calls = recorded(informer)
    informer.put(pod("a", 2))
    informer.put(pod("a", 2))
    informer.remove(pod("a", 3))
    informer.remove(pod("a", 3))
    assert calls == [(None, "1"), ("1", "2"), ("3", None)]
    assert informer.objects() == []


def test_indexes_follow_changes() -> None:
    informer = CachedInformer()
    informer.put(pod("a", 1))
    informer.add_index("node", by_node)
    informer.put(pod("a", 2, "n1"))
    informer.put(pod("b", 3, "n1"))
    assert [one["metadata"]["name"] for one in informer.indexed("node", "n1")] == ["a", "b"]
    informer.put(pod("a", 4, "n2"))
    assert [one["metadata"]["resourceVersion"] for one in informer.indexed("node", "n2")] == ["4"]
    informer.remove(pod("b", 5, "n1"))
    assert informer.indexed("node", "n1") == []
    assert informer.index_values("node") == ["n2"]


def test_replace_removes_what_is_gone_and_syncs() -> None:
    informer = CachedInformer()
    informer.replace([pod("a", 1), pod("b", 2, namespace="other")])
    assert informer.synced
    calls = recorded(informer)
    informer.replace([pod("b", 2, namespace="other"), pod("c", 4)])
    assert calls == [(None, "1"), (None, "2"), ("1", None), (None, "4")]
    assert informer.get("c", "ns") is not None and informer.get("a", "ns") is None
    assert len(informer.objects("other")) == 1


def test_a_new_uid_is_a_deletion_and_a_creation() -> None:
    informer = CachedInformer()
    informer.put(pod("a", 1))
    calls = recorded(informer)
    informer.replace([pod("a", 9, uid="another")])
    assert calls == [(None, "1"), ("1", None), (None, "9")]


def test_a_failing_handler_does_not_stop_the_others() -> None:
    informer = CachedInformer()

    def broken(old: Obj | None, new: Obj | None) -> None:
        raise RuntimeError("broken")

    informer.add_handler(broken)
    calls = recorded(informer)
    informer.put(pod("a", 1))
    assert calls == [(None, "1")]


def test_own_writes_show_at_once_and_late_events_do_not_undo_them() -> None:
    informer = CachedInformer()
    informer.replace([pod("a", 5)], 5)
    calls = recorded(informer)
    informer.observe(pod("a", 8))
    informer.put(pod("a", 7))
    informer.put(pod("a", 8))
    assert calls == [(None, "5"), ("5", "8")]


def test_a_write_that_the_watch_has_passed_is_not_taken_in() -> None:
    informer = CachedInformer()
    informer.replace([], 5)
    informer.put(pod("a", 6))
    informer.remove(pod("a", 7))
    informer.revision = 7
    informer.observe(pod("a", 6))
    assert informer.get("a", "ns") is None


def test_an_observed_creation_survives_an_older_list() -> None:
    informer = CachedInformer()
    informer.replace([], 5)
    informer.observe(pod("a", 9))
    informer.replace([], 8)
    assert informer.get("a", "ns") is not None
    informer.replace([], 9)
    assert informer.get("a", "ns") is None


def test_an_own_deletion_shows_until_the_watch_reports_it() -> None:
    informer = CachedInformer()
    informer.replace([pod("a", 5)], 5)
    informer.observe_deletion("another", "a", "ns", "2026-01-01T00:00:00Z")
    assert "deletionTimestamp" not in (informer.get("a", "ns") or {})["metadata"]
    informer.observe_deletion("uid-a", "a", "ns", "2026-01-01T00:00:00Z")
    assert (informer.get("a", "ns") or {})["metadata"]["deletionTimestamp"] == "2026-01-01T00:00:00Z"
    # What happened before the deletion may come later; it does not bring the object back.
    informer.put(pod("a", 6))
    assert (informer.get("a", "ns") or {})["metadata"]["deletionTimestamp"] == "2026-01-01T00:00:00Z"
    gone = pod("a", 7)
    gone["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:30Z"
    informer.put(gone)
    assert (informer.get("a", "ns") or {})["metadata"]["deletionTimestamp"] == "2026-01-01T00:00:30Z"
    informer.remove(gone)
    assert informer.get("a", "ns") is None and not informer._leaving
    # A whole new list is believed.
    informer.put(pod("a", 9))
    informer.observe_deletion("uid-a", "a", "ns", "2026-01-01T00:00:00Z")
    informer.replace([pod("a", 10)], 10)
    assert "deletionTimestamp" not in (informer.get("a", "ns") or {})["metadata"]


def test_managed_fields_are_not_kept() -> None:
    informer, seen = CachedInformer(), []
    informer.add_handler(lambda old, new: seen.append(new))
    meta = {"name": "a", "namespace": "ns", "uid": "a", "resourceVersion": "1", "managedFields": [{"manager": "x"}]}
    given = {"metadata": meta, "spec": {}}
    informer.put(given)
    kept = informer.get("a", "ns")
    assert kept is not None and "managedFields" not in kept["metadata"] and seen == [kept]
    assert kept["spec"] is given["spec"] and "managedFields" in given["metadata"]  # shared, and left alone
    assert informer.count("ns") == 1 and informer.count("other") == 0
