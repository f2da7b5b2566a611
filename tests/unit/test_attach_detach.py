"""The attach-detach controller's decisions: attach, wait, tell, let go; at once, after six minutes, or never."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from proa.controllers.attachdetach.plan import (
    MANAGED,
    OUT_OF_SERVICE,
    Need,
    Plan,
    Seen,
    attachment_name,
    bound_volume,
    claims_of,
    plan,
    unique_name,
    wants_attaching,
)
from proa.meta.objects import Obj
from proa.util.clock import rfc3339

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def volume(*modes: str, claim: str = "u") -> Obj:
    csi = {"driver": "d.example.com", "volumeHandle": "h"}
    spec = {"csi": csi, "accessModes": modes or ("ReadWriteOnce",), "claimRef": {"uid": claim}}
    return {"metadata": {"name": "v"}, "spec": spec}


UNIQUE = unique_name(volume())


def pod(name: str, namespace: str = "ns") -> Obj:
    return {"metadata": {"name": name, "namespace": namespace}}


def node(ready: bool = True, in_use: bool = False, attached: bool = False, **spec: Any) -> Obj:
    status: Obj = {"conditions": [{"type": "Ready", "status": "True" if ready else "Unknown"}]}
    if in_use:
        status["volumesInUse"] = [UNIQUE]
    if attached:
        status["volumesAttached"] = [{"name": UNIQUE, "devicePath": ""}]
    return {"metadata": {"name": "n", "annotations": {MANAGED: "true"}}, "spec": spec, "status": status}


def attachment(attached: bool = True, age: float = 1.0, deleted: bool = False, **status: Any) -> Obj:
    created = rfc3339(NOW - timedelta(seconds=age))
    meta = {"name": attachment_name(volume(), "n"), "creationTimestamp": created}
    if deleted:
        meta["deletionTimestamp"] = created
    return {"metadata": meta, "spec": {}, "status": {"attached": attached, **status}}


def decide(
    at: Obj | None,
    needed: Need | None = None,
    has: Obj | None = None,
    elsewhere: list[Obj] | None = None,
    unneeded_seconds: float = 0.0,
) -> Plan:
    seen = Seen(
        node=at,
        name="n",
        needs={UNIQUE: needed} if needed else {},
        attachments={UNIQUE: has} if has else {},
        elsewhere={} if elsewhere is None else {UNIQUE: elsewhere},
        unneeded_since={UNIQUE: NOW - timedelta(seconds=unneeded_seconds)},
    )
    return plan(seen, NOW)


def need(*modes: str) -> Need:
    return Need(volume(*modes), [pod("p")])


def test_names() -> None:
    assert UNIQUE == "kubernetes.io/csi/d.example.com^h"
    # sha256 of handle, driver and node, one after the other
    assert attachment_name(volume(), "n").startswith("csi-")
    assert len(attachment_name(volume(), "n")) == 4 + 64


def test_a_wish_is_made_for_a_needed_volume() -> None:
    made = decide(node(), need())
    (wish,) = made.attach
    assert wish["metadata"] == {"name": attachment_name(volume(), "n")}
    assert wish["spec"] == {
        "attacher": "d.example.com",
        "nodeName": "n",
        "source": {"persistentVolumeName": "v"},
    }
    assert made.attached is None and made.look_again_seconds == 120
    assert decide(None, need()).attach == []
    unmanaged = {**node(), "metadata": {"name": "n"}}
    assert decide(unmanaged, need()).attach == []


def test_what_is_attached_is_told_once() -> None:
    made = decide(node(), need(), attachment())
    assert made.attached == [{"name": UNIQUE, "devicePath": ""}]
    assert [(one.reason, one.message) for one in made.told] == [
        ("SuccessfulAttachVolume", 'AttachVolume.Attach succeeded for volume "v" ')
    ]
    again = decide(node(attached=True), need(), attachment())
    assert (again.attached, again.told, again.attach) == (None, [], [])


@pytest.mark.parametrize(
    ("has", "message", "look_again"),
    [
        (attachment(False, 20), "", 100),
        (attachment(False, attachError={"message": "no room"}), "no room", 120),
        (
            attachment(False, 121),
            "timed out waiting for external-attacher of d.example.com CSI driver to attach volume h",
            120,
        ),
    ],
)
def test_what_pods_are_told_of_an_attachment_that_is_not_done(has: Obj, message: str, look_again: float) -> None:
    made = decide(node(), need(), has)
    texts = [one.message for one in made.told]
    assert texts == ([f'AttachVolume.Attach failed for volume "v" : {message}'] if message else [])
    assert made.look_again_seconds == pytest.approx(look_again)


@pytest.mark.parametrize(
    ("others", "text"),
    [
        ([], "Volume is already exclusively attached to one node and can't be attached to another"),
        ([pod("b"), pod("a")], "Volume is already used by pod(s) a, b"),
        ([pod("a"), pod("x", "other")], "Volume is already used by pod(s) a and 1 pod(s) in different namespaces"),
        ([pod("x", "other")], "Volume is already used by 1 pod(s) in different namespaces"),
    ],
)
def test_a_volume_for_one_node_is_not_attached_to_two(others: list[Obj], text: str) -> None:
    made = decide(node(), need(), elsewhere=others)
    assert made.attach == []
    assert [one.message for one in made.told] == [f'Multi-Attach error for volume "v" {text}']
    assert decide(node(), need("ReadWriteMany"), elsewhere=others).attach


@pytest.mark.parametrize(
    ("at", "seconds", "detached", "look_again"),
    [
        (node(attached=True), 0, True, None),
        (node(attached=True, in_use=True), 1000, False, None),  # the kubelet will let go
        (node(ready=False, attached=True, in_use=True), 60, False, 300),
        (node(ready=False, attached=True, in_use=True), 361, True, None),
        (node(ready=False, attached=True, in_use=True, taints=[{"key": OUT_OF_SERVICE}]), 0, True, None),
        (None, 0, True, None),
    ],
)
def test_when_a_volume_is_let_go(at: Obj | None, seconds: float, detached: bool, look_again: float | None) -> None:
    made = decide(at, None, attachment(), unneeded_seconds=seconds)
    assert made.detach == ([attachment_name(volume(), "n")] if detached else [])
    assert made.attached == ([] if detached and at is not None else None)
    assert made.look_again_seconds == look_again
    assert decide(at, None, attachment(deleted=True), unneeded_seconds=seconds).detach == []


def test_what_needs_attaching() -> None:
    assert wants_attaching(volume(), {})
    assert not wants_attaching(volume(), {"d.example.com": {"spec": {"attachRequired": False}}})
    claim = {"metadata": {"uid": "u"}, "spec": {"volumeName": "v"}}
    assert bound_volume(claim, {"v": volume()}) == volume()
    assert bound_volume(claim, {"v": volume(claim="other")}) is None
    assert bound_volume(None, {"v": volume()}) is None
    of = {"volumes": [{"name": "a", "persistentVolumeClaim": {"claimName": "c"}}, {"name": "b", "ephemeral": {}}]}
    assert claims_of({**pod("p"), "spec": of}) == ["c"]
    of["volumes"][1]["ephemeral"] = {"volumeClaimTemplate": {}}
    assert claims_of({**pod("p"), "spec": of}) == ["c", "p-b"]
