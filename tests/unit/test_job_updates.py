"""What of a Job's template may change: scheduling and resources, while it is suspended and has no pods."""

from __future__ import annotations

from typing import Any

import pytest

from proa.apis.batch.job_checks import job_update
from proa.controllers.deployment.sets import template_hash
from proa.controllers.revisions import safe_hash
from proa.meta.objects import Obj, copy_object

STARTED = "2026-01-01T00:00:00Z"
SUSPENDED = [{"type": "Suspended", "status": "True"}]


def job(status: Obj, **pod: Any) -> Obj:
    resources = pod.pop("resources", {"requests": {"cpu": "1"}})
    container = {
        "name": "c",
        "image": pod.pop("image", "i"),
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "Always",
        "resources": resources,
    }
    labels = pod.pop("labels", {"a": "b"})
    spec = {"restartPolicy": "Never", "dnsPolicy": "ClusterFirst", "containers": [container], **pod}
    template = {"metadata": {"labels": labels}, "spec": spec}
    return {
        "metadata": {"name": "j", "namespace": "ns"},
        "spec": {"suspend": True, "parallelism": 1, "completions": 1, "backoffLimit": 6, "template": template},
        "status": status,
    }


@pytest.mark.parametrize(
    ("status", "allowed"),
    [
        ({}, True),
        ({"startTime": STARTED}, False),
        ({"startTime": STARTED, "conditions": SUSPENDED}, True),
        ({"conditions": SUSPENDED, "active": 1}, False),
        ({"startTime": STARTED, "conditions": [{"type": "Suspended", "status": "False"}]}, False),
    ],
)
@pytest.mark.parametrize(
    "change",
    [
        {"nodeSelector": {"disk": "ssd"}},
        {"tolerations": [{"operator": "Exists"}]},
        {"resources": {"requests": {"cpu": "2"}}},
        {"labels": {"a": "c"}},
        {"schedulingGates": [{"name": "example.com/g"}]},
    ],
)
def test_what_a_suspended_job_may_change(status: Obj, allowed: bool, change: Obj) -> None:
    errors = [one for one in job_update(job(status, **copy_object(change)), job(status)) if "immutable" in str(one)]
    assert (not errors) == allowed


def test_its_image_stays() -> None:
    errors = [one for one in job_update(job({}, image="other"), job({})) if "immutable" in str(one)]
    assert errors


def test_a_running_job_changes_nothing() -> None:
    running = job({"active": 1, "startTime": STARTED})
    running["spec"]["suspend"] = False
    changed = copy_object(running)
    changed["spec"]["template"]["spec"]["nodeSelector"] = {"disk": "ssd"}
    assert [one for one in job_update(changed, running) if "immutable" in str(one)]


def test_hashes_look_as_upstream_s() -> None:
    """Decimal digits become these ten characters, of which no word can be made."""
    found = {template_hash({"spec": {"n": number}}, None) for number in range(200)}
    found |= {safe_hash({"n": number}, 1) for number in range(200)}
    assert len(found) == 400
    assert {one for text in found for one in text} == set("456789bcdf")
