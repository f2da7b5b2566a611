"""A stateful set's claim templates are volumes of its pods, and have to be claims."""

from __future__ import annotations

from typing import Any

import pytest

from proa.apis.apps.stateful_set import STATEFUL_SET
from proa.meta.objects import Obj


def stateful_set(mount: str, volumes: list[Obj] | None = None, **claim: Any) -> Obj:
    container = {"name": "c", "image": "i", "volumeMounts": [{"name": mount, "mountPath": "/d"}]}
    pod: Obj = {"containers": [container], "volumes": volumes or []}
    claims = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **claim}
    spec = {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": pod},
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claims}],
    }
    made = {"metadata": {"name": "db"}, "spec": spec}
    STATEFUL_SET.strategy.default(made)
    return made


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        (stateful_set("data"), []),
        (stateful_set("data", [{"name": "data", "emptyDir": {}}]), []),  # the claim goes before it
        (stateful_set("other"), ["spec.template.spec.containers[0].volumeMounts[0].name"]),
        (stateful_set("data", accessModes=[]), ["spec.volumeClaimTemplates[0].spec.accessModes"]),
    ],
)
def test_claim_templates(given: Obj, fields: list[str]) -> None:
    assert [one.path for one in STATEFUL_SET.strategy.validate(given)] == fields


def test_an_old_set_with_a_bad_claim_template_can_still_be_changed() -> None:
    old = stateful_set("data", accessModes=[])
    assert STATEFUL_SET.strategy.validate_update({**old, "spec": {**old["spec"], "replicas": 3}}, old) == []
