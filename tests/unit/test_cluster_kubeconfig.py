"""Merging a cluster's context into a user's kubeconfig, and taking it out again."""

import stat
from pathlib import Path

import pytest
import yaml

from proa.cluster import kubeconfig

MINE = """apiVersion: v1
kind: Config
clusters: [{name: work, cluster: {server: "https://work.example"}}]
users: [{name: work, user: {token: t}}]
contexts: [{name: work, context: {cluster: work, user: work}}]
current-context: work
"""


def made(name: str, server: str = "https://127.0.0.1:7443") -> kubeconfig.Config:
    return kubeconfig.config(kubeconfig.context_name(name), server, b"ca", b"cert", b"key")


def test_merge_selects_the_new_context_and_keeps_others(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(MINE)
    kubeconfig.merge(file, made("one"))
    kubeconfig.merge(file, made("one", "https://127.0.0.1:8443"))
    content = yaml.safe_load(file.read_text())
    assert [one["name"] for one in content["clusters"]] == ["work", "proa-one"]
    assert content["clusters"][1]["cluster"]["server"] == "https://127.0.0.1:8443"
    assert content["current-context"] == "proa-one"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_unmerge_leaves_no_dangling_context(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(MINE)
    kubeconfig.merge(file, made("one"))
    assert kubeconfig.unmerge(file, "proa-one")
    content = yaml.safe_load(file.read_text())
    assert [one["name"] for one in content["contexts"]] == ["work"]
    assert content["current-context"] == ""
    assert not kubeconfig.unmerge(file, "proa-one")


def test_a_file_of_ours_alone_goes(tmp_path: Path) -> None:
    file = tmp_path / "sub" / "config"
    kubeconfig.merge(file, made("one"))
    assert kubeconfig.unmerge(file, "proa-one")
    assert not file.exists()


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "just words"])
def test_refuses_what_is_no_kubeconfig(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config"
    file.write_text(text)
    with pytest.raises(ValueError, match=str(file)):
        kubeconfig.merge(file, made("one"))
    assert file.read_text() == text


def test_first_file_of_the_variable_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/a/one:/b/two")
    assert kubeconfig.user_file() == Path("/a/one")
