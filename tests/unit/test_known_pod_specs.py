"""Specs of pods known to be valid: alike but for the generated name of the token's volume."""

from __future__ import annotations

import pytest

from proa.apis.podspec import known
from proa.meta.objects import Obj


@pytest.fixture(autouse=True)
def _nothing_known() -> None:
    known._valid.clear()


def _spec(volume: str, mount: str = "", **container: object) -> Obj:
    return {
        "restartPolicy": "Always",
        "dnsPolicy": "ClusterFirst",
        "terminationGracePeriodSeconds": 30,
        "containers": [
            {
                "name": "c",
                "image": "nginx",
                "imagePullPolicy": "Always",
                "terminationMessagePolicy": "File",
                "volumeMounts": [{"name": mount or volume, "mountPath": "/token"}],
                **container,
            }
        ],
        "volumes": [{"name": volume, "emptyDir": {}}],
    }


def test_a_generated_name_makes_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    assert known.pod_spec_errors(_spec("kube-api-access-bcdfg")) == []
    monkeypatch.setattr(known, "pod_spec", lambda *_, **__: pytest.fail("checked again"))
    assert known.pod_spec_errors(_spec("kube-api-access-zxwvt")) == []


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(_spec("kube-api-access-bcdfg", mount="kube-api-access-zxwvt"), id="a mount of another volume"),
        pytest.param(_spec("kube-api-access-bcdfg", name="C"), id="another part"),
        pytest.param(_spec("kube-api-access-BCDFG"), id="a name that no server generates"),
        pytest.param(_spec("kube-api-access-bcdfg", mount="\0"), id="a mount of what stands for the name"),
    ],
)
def test_what_is_wrong_is_found_beside_a_known_spec(spec: Obj) -> None:
    assert known.pod_spec_errors(_spec("kube-api-access-zxwvt")) == []
    assert known.pod_spec_errors(spec)
    assert known.pod_spec_errors(spec), "nothing wrong is remembered"


def test_few_are_kept() -> None:
    for number in range(2 * known._KEPT_MAX):
        assert known.pod_spec_errors(_spec(f"volume-{number}")) == []
    assert len(known._valid) == known._KEPT_MAX
