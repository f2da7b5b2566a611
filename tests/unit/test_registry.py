"""Pulling from a registry that asks for a token, serves several platforms, and lies."""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proa.cluster import images, registry
from proa.cluster.oci import architecture
from proa.cluster.problems import Problem

CONFIG = b'{"architecture":"any"}'
LAYER = b"layer"
BLOBS = {registry._digest(one): one for one in (CONFIG, LAYER)}
MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "config": {"digest": registry._digest(CONFIG), "size": len(CONFIG)},
        "layers": [{"digest": registry._digest(LAYER), "size": len(LAYER)}],
    }
).encode()
INDEX = json.dumps(
    {
        "schemaVersion": 2,
        "manifests": [
            {"digest": "sha256:0", "platform": {"os": "linux", "architecture": "s390x"}},
            {"digest": registry._digest(MANIFEST), "platform": {"os": "linux", "architecture": architecture()}},
        ],
    }
).encode()


class Handler(http.server.BaseHTTPRequestHandler):
    content = {"manifests/1.0": INDEX, f"manifests/{registry._digest(MANIFEST)}": MANIFEST}

    def do_GET(self) -> None:
        if self.path.startswith("/token"):
            return self.answer(200, b'{"token":"secret"}')
        if self.headers.get("Authorization") != "Bearer secret":
            realm = f"http://127.0.0.1:{self.server.server_address[1]}/token"
            return self.answer(401, b"", {"WWW-Authenticate": f'Bearer realm="{realm}",service="s"'})
        path = self.path.removeprefix("/v2/team/app/")
        data = self.content.get(path) or BLOBS.get(path.removeprefix("blobs/"))
        return self.answer(200, data) if data else self.answer(404, b"")

    def answer(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.delenv("PROA_OFFLINE", raising=False)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def test_pulls_what_this_machine_runs(port: int, tmp_path: Path) -> None:
    name = f"127.0.0.1:{port}/team/app:1.0"
    assert registry.pull(name, tmp_path / "a.tar") == registry._digest(MANIFEST)
    assert images.archive_names(tmp_path / "a.tar") == [name]


def test_a_wrong_blob_is_refused(port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BLOBS, registry._digest(LAYER), b"other")
    with pytest.raises(Problem, match="does not match its digest"):
        registry.pull(f"127.0.0.1:{port}/team/app:1.0", tmp_path / "a.tar")
    assert not (tmp_path / "a.tar").exists()


def test_what_is_missing_or_forbidden_is_said_in_one_line(
    port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Problem, match="answers 404"):
        registry.pull(f"127.0.0.1:{port}/team/app:2.0", tmp_path / "a.tar")
    with pytest.raises(Problem, match="cannot be reached"):
        registry.pull("127.0.0.1:1/team/app:2.0", tmp_path / "a.tar")
    monkeypatch.setenv("PROA_OFFLINE", "1")
    with pytest.raises(Problem, match="PROA_OFFLINE"):
        registry.pull(f"127.0.0.1:{port}/team/app:1.0", tmp_path / "a.tar")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nginx", ("docker.io", "library/nginx", "latest")),
        ("me/app:2", ("docker.io", "me/app", "2")),
        ("ghcr.io/me/app@sha256:ab", ("ghcr.io", "me/app", "sha256:ab")),
        ("localhost:5000/app", ("localhost:5000", "app", "latest")),
    ],
)
def test_names(name: str, expected: tuple[str, str, str]) -> None:
    assert registry.parse(name) == registry.Reference(*expected)
