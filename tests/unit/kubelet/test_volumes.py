"""Files of volumes: what they hold, and how they change at once."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest

from proa.client.resources import CONFIGMAPS, PERSISTENTVOLUMECLAIMS, SECRETS
from proa.kubelet.environment import ConfigError, NodeFacts
from proa.kubelet.references import Reference
from proa.kubelet.volumes.host import host_path
from proa.kubelet.volumes.payload import File, TokenRequest, payload, references_of
from proa.kubelet.volumes.subpath import _open_inside, _resolve_inside, sub_path
from proa.kubelet.volumes.writer import write_files

from .shapes import pod

NODE = NodeFacts(name="n1", allocatable={"cpu": "4"})
FOUND = {
    ("configmaps", "cm"): {"data": {"a": "1", "b": "2"}, "binaryData": {"c": base64.b64encode(b"\xff").decode()}},
    ("secrets", "s"): {"data": {"word": base64.b64encode(b"hush").decode()}},
}


def files(volume: dict[str, Any], of: dict[str, Any] | None = None, **tokens: str) -> dict[str, File] | None:
    given = {TokenRequest("token", "", 3600): text for text in tokens.values()}
    of = of or pod("a", meta={"labels": {"app": 'a "b"'}})
    return payload(of, volume, node=NODE, lookup=lambda kind, name: FOUND.get((kind, name)), tokens=given)


def test_what_volumes_hold() -> None:
    assert files({"configMap": {"name": "cm"}}) == {
        "a": File(b"1", 0o644),
        "b": File(b"2", 0o644),
        "c": File(b"\xff", 0o644),
    }
    items = [{"key": "b", "path": "deep/er", "mode": 0o400}, {"key": "a", "path": "x"}]
    assert files({"configMap": {"name": "cm", "items": items, "defaultMode": 0o600}}) == {
        "deep/er": File(b"2", 0o400),
        "x": File(b"1", 0o600),
    }
    assert files({"secret": {"secretName": "s"}}) == {"word": File(b"hush", 0o644)}
    fields = [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]
    fields.append({"path": "cpu", "resourceFieldRef": {"containerName": "a", "resource": "limits.cpu"}})
    assert files({"downwardAPI": {"items": fields}}) == {
        "labels": File(b'app="a \\"b\\""', 0o644),
        "cpu": File(b"4", 0o644),
    }
    assert files({"emptyDir": {}}) is None


def test_projected_sources_together() -> None:
    sources: list[dict[str, Any]] = [
        {"serviceAccountToken": {"path": "token"}},
        {"configMap": {"name": "cm", "items": [{"key": "a", "path": "ca"}]}},
        {"secret": {"name": "s"}},
        {"configMap": {"name": "none", "optional": True}},
    ]
    volume = {"projected": {"sources": sources}}
    assert files(volume, token="t") == {
        "token": File(b"t", 0o644),
        "ca": File(b"1", 0o644),
        "word": File(b"hush", 0o644),
    }
    as_user = pod("a", securityContext={"runAsUser": 7})
    found = files(volume, as_user, token="t")
    assert found
    assert found["token"] == File(b"t", 0o600, 7)


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ({"configMap": {"name": "none"}}, 'configmap "none" not found'),
        (
            {"secret": {"secretName": "s", "items": [{"key": "x", "path": "x"}]}},
            "non-existent secret key: x",
        ),
        (
            {"projected": {"sources": [{"clusterTrustBundle": {"name": "absent", "path": "p"}}]}},
            'clustertrustbundle "absent" not found',
        ),
        ({"projected": {"sources": [{"podCertificate": {}}]}}, "podCertificate is not supported"),
    ],
)
def test_what_is_missing(volume: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        files(volume)


def test_references_of_a_pod() -> None:
    container = {
        "name": "a",
        "envFrom": [{"secretRef": {"name": "one"}}],
        "env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "two", "key": "x"}}}],
    }
    volumes = [
        {"name": "v", "projected": {"sources": [{"secret": {"name": "three"}}]}},
        {"name": "w", "persistentVolumeClaim": {"claimName": "four"}},
        {"name": "e", "ephemeral": {}},
    ]
    assert references_of(pod(container, volumes=volumes, imagePullSecrets=[{"name": "five"}])) == {
        Reference(SECRETS, "default", "one"),
        Reference(CONFIGMAPS, "default", "two"),
        Reference(SECRETS, "default", "three"),
        Reference(PERSISTENTVOLUMECLAIMS, "default", "four"),
        Reference(PERSISTENTVOLUMECLAIMS, "default", "web-e"),
        Reference(SECRETS, "default", "five"),
    }


def test_files_change_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    assert write_files(folder, {"a": File(b"1", 0o600), "sub/b": File(b"2", 0o644)})
    assert (folder / "a").read_text() == "1"
    assert (folder / "sub" / "b").read_text() == "2"
    assert (folder / "a").stat().st_mode & 0o777 == 0o600
    assert os.readlink(folder / "a") == "..data/a"
    first = os.readlink(folder / "..data")
    assert not write_files(folder, {"a": File(b"1", 0o600), "sub/b": File(b"2", 0o644)})
    assert os.readlink(folder / "..data") == first
    assert write_files(folder, {"a": File(b"new", 0o644), "c": File(b"3", 0o644)})
    assert {one.name for one in folder.iterdir()} == {"a", "c", "..data", os.readlink(folder / "..data")}
    assert (folder / "a").read_text() == "new"


def test_host_paths_are_of_their_type(tmp_path: Path) -> None:
    assert host_path({"path": str(tmp_path / "d"), "type": "DirectoryOrCreate"}).is_dir()
    assert host_path({"path": str(tmp_path / "f"), "type": "FileOrCreate"}).is_file()
    for kind, path in (("File", tmp_path / "d"), ("Directory", tmp_path / "none"), ("Socket", tmp_path / "f")):
        with pytest.raises(ConfigError, match="hostPath type check failed"):
            host_path({"path": str(path), "type": kind})


@pytest.mark.parametrize("path", ["/abs", "../up", "a/../../b"])
def test_sub_paths_stay_inside(path: str) -> None:
    with pytest.raises(ConfigError):
        sub_path({"subPathExpr": "$(P)"}, {"P": path})


def test_a_link_leads_no_sub_path_out_of_the_volume(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    (volume / "real").mkdir(parents=True)
    (volume / "out").symlink_to(tmp_path)
    (volume / "in").symlink_to("real")
    assert _resolve_inside(volume, volume / "in", "v") == Path("real")
    with pytest.raises(ConfigError, match="leads out of the volume"):
        _resolve_inside(volume, volume / "out" / "x", "v")
    with pytest.raises(ConfigError, match="symbolic link"):
        _open_inside(volume, Path("in"))
    os.close(_open_inside(volume, Path("new/deep"), create=True))
    assert (volume / "new" / "deep").is_dir()
