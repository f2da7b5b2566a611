"""Pods counted as they change: the same numbers as one by one, whatever happens in whichever order."""

from __future__ import annotations

import random
from datetime import UTC, datetime

from proa.client.informer import CachedInformer
from proa.controllers.ownership import MATCHED_LABEL_INDEX, by_matched_label, selecting
from proa.controllers.pods import DeletionOrder
from proa.controllers.replicaset.plan import count, counted, plan
from proa.controllers.tally import Tally
from proa.meta.gvk import GVK
from proa.meta.objects import Obj, name_of
from proa.meta.selectors import from_object

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
KIND = GVK("apps", "v1", "ReplicaSet")


def replica_set(name: str = "rs", replicas: int = 3, **spec: object) -> Obj:
    template = {"metadata": {"labels": {"app": "a"}}}
    selector = {"matchLabels": {"app": "a"}}
    return {
        "metadata": {"name": name, "namespace": "ns", "uid": name, "resourceVersion": "1"},
        "spec": {"replicas": replicas, "selector": selector, "template": template, **spec},
    }


def random_pod(rand: random.Random, name: str, revision: int) -> Obj:
    meta: Obj = {"name": name, "namespace": "ns", "uid": name, "resourceVersion": str(revision)}
    meta["labels"] = rand.choice([{"app": "a"}, {"app": "a", "more": "b"}])
    meta["creationTimestamp"] = "2026-01-01T00:00:00Z"
    owner = rand.choice(["rs", "rs", "rs", "other", ""])
    if owner:
        reference = {"kind": "ReplicaSet", "apiVersion": "apps/v1", "name": owner, "uid": owner, "controller": True}
        meta["ownerReferences"] = [reference]
    if rand.random() < 0.2:
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    ready = {"type": "Ready", "status": rand.choice(["True", "False"])}
    phase = rand.choice(["Pending", "Running", "Running", "Failed"])
    return {"metadata": meta, "spec": {}, "status": {"phase": phase, "conditions": [ready]}}


def test_counts_as_one_by_one() -> None:
    rand, pods, owner = random.Random(1), CachedInformer(), replica_set()
    tally = Tally(pods, KIND)
    selector = from_object(owner["spec"]["selector"])
    for revision in range(1, 2000):
        name = f"p{rand.randrange(40)}"
        if rand.random() < 0.2:
            gone = pods.get(name, "ns")
            if gone is not None:
                pods.remove(gone)
        else:
            pods.put(random_pod(rand, name, revision))
        for uid in ("rs", "other"):
            own = [
                one
                for one in pods.objects()
                if (one["metadata"].get("ownerReferences") or [{"uid": ""}])[0]["uid"] == uid
            ]
            assert counted(owner, selector, tally.of(uid)) == count(owner, own, NOW)
    for one in pods.objects():
        pods.remove(one)
    assert not tally.of("rs") and not tally._counted and not tally._shared


def test_who_must_look_at_the_pods() -> None:
    pods = CachedInformer()
    tally = Tally(pods, KIND)
    for number in range(10):
        pods.put(random_pod(random.Random(number), f"p{number}", number + 1))
    owner = "rs"
    fits, elsewhere = from_object({"matchLabels": {"app": "a"}}), from_object({"matchLabels": {"app": "x"}})
    assert counted(replica_set(), fits, tally.of(owner)) is not None
    assert counted(replica_set(), elsewhere, tally.of(owner)) is None  # to be released
    assert counted(replica_set(minReadySeconds=5), fits, tally.of(owner)) is None


def test_the_first_of_thousands_to_go_are_those_of_the_whole_order() -> None:
    rand = random.Random(2)
    pods = []
    for number in range(3000):
        pod = random_pod(rand, f"p{number}", number)
        pod["metadata"].pop("deletionTimestamp", None)
        pod["spec"]["nodeName"] = rand.choice(["n1", "n2", ""])
        pod["status"]["phase"] = rand.choice(["Pending", "Running"])
        pods.append(pod)
    related = {"n1": 5, "n2": 3}
    chosen = plan(replica_set(replicas=2000), pods, lambda: related, NOW).delete
    assert [*map(name_of, chosen)] == [
        *map(name_of, sorted(pods, key=lambda pod: DeletionOrder(pod, related, NOW))[:500])
    ]
    everyone = plan(replica_set(replicas=0), pods, lambda: related, NOW).delete
    assert len(everyone) == 500


def test_owners_of_an_orphan_are_found_by_its_labels() -> None:
    owners = CachedInformer()
    owners.add_index(MATCHED_LABEL_INDEX, by_matched_label)
    exists = {"matchExpressions": [{"key": "app", "operator": "Exists"}]}
    owners.put(replica_set("labels"))
    owners.put(replica_set("expressions", selector=exists))
    owners.put(replica_set("else", selector={"matchLabels": {"app": "b"}}))
    owners.put(replica_set("more", selector={"matchLabels": {"app": "a", "tier": "x"}}))
    pod = random_pod(random.Random(0), "p", 1)
    found = selecting(owners, pod, lambda one: from_object(one["spec"]["selector"]))
    assert sorted(map(name_of, found)) == ["expressions", "labels"]
    old = {"metadata": {"name": "rc", "namespace": "ns"}, "spec": {"selector": {"app": "a"}}}
    assert [*by_matched_label(old)] == ["ns/app=a"]
