"""Reading kubeconfigs: data and files, relative paths, what is refused, and tokens renewed on disk."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from proa.client.kubeconfig import ClientConfig, Credentials, KubeconfigError, Source, from_dict, in_cluster, load


def config(user: dict[str, Any], cluster: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "team"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://127.0.0.1:1", **(cluster or {})}}],
        "users": [{"name": "u", "user": user}],
    }


def test_data_and_files(tmp_path: Path) -> None:
    found = from_dict(
        config(
            {"client-certificate": "pki/me.crt", "client-key-data": base64.b64encode(b"KEY").decode()},
            {"certificate-authority-data": base64.b64encode(b"CA").decode(), "tls-server-name": "kubernetes"},
        ),
        directory=tmp_path,
    )
    assert found.authority.read() == b"CA"
    assert found.certificate.file == tmp_path / "pki/me.crt"
    assert found.key.read() == b"KEY"
    assert (found.server_name, found.namespace) == ("kubernetes", "team")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"current-context": "other"}, "no context named 'other'"),
        ({"clusters": []}, "no cluster named 'k'"),
        ({"users": [{"name": "u", "user": {"exec": {"command": "x"}}}]}, "credential plugin"),
        ({"users": [{"name": "u", "user": {"client-key-data": "!"}}]}, "not base64"),
        ({"clusters": [{"name": "k", "cluster": {}}]}, "has no server"),
    ],
)
def test_what_is_refused_names_the_entry(change: dict[str, Any], text: str) -> None:
    with pytest.raises(KubeconfigError, match=text):
        from_dict({**config({}), **change})


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="No such file"):
        load(tmp_path / "absent")
    (tmp_path / "bad").write_text("a: [")
    with pytest.raises(KubeconfigError, match="not YAML"):
        load(tmp_path / "bad")


def test_a_token_file_is_followed(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("one\n")
    credentials = Credentials(ClientConfig(server="http://127.0.0.1:1", token=Source(file=token)))
    assert credentials.headers() == [("Authorization", "Bearer one")]
    replacement = tmp_path / "new"
    replacement.write_text("two")
    replacement.rename(token)
    credentials.refresh()
    assert credentials.headers() == [("Authorization", "Bearer two")]
    token.unlink()
    credentials.refresh()
    assert credentials.headers() == [("Authorization", "Bearer two")]


def test_in_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(KubeconfigError):
        in_cluster(tmp_path)
    (tmp_path / "token").write_text("t")
    (tmp_path / "namespace").write_text("ns")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    found = in_cluster(tmp_path)
    assert (found.server, found.namespace) == ("https://[fd00::1]:443", "ns")
