"""What volumes hold, as the node's summary says it."""

from __future__ import annotations

from pathlib import Path

from proa.kubelet.server.volumestats import volume_stats


def test_volumes_of_a_pod(tmp_path: Path) -> None:
    scratch, data = tmp_path / "scratch", tmp_path / "data"
    for folder in (scratch, data):
        folder.mkdir()
    (scratch / "file").write_bytes(b"x" * 10_000)
    (scratch / "link").hardlink_to(scratch / "file")
    volumes = [
        {"name": "scratch", "emptyDir": {}},
        {"name": "data", "persistentVolumeClaim": {"claimName": "c"}},
        {"name": "host", "hostPath": {"path": "/"}},
        {"name": "late", "emptyDir": {}},
    ]
    pod = {"metadata": {"name": "p", "namespace": "ns"}, "spec": {"volumes": volumes}}
    paths = {"scratch": scratch, "data": data, "host": Path("/"), "late": tmp_path / "absent"}
    empty, claimed = volume_stats(pod, paths, "now")
    assert (empty["name"], empty["inodesUsed"]) == ("scratch", 2)  # the folder and one file of two names
    assert 10_000 <= empty["usedBytes"] < 100_000
    assert "pvcRef" not in empty
    assert claimed["pvcRef"] == {"name": "c", "namespace": "ns"}
    assert claimed["capacityBytes"] >= claimed["usedBytes"] > 0
    assert volume_stats(pod, paths, "now", claims_only=True) == [claimed]
