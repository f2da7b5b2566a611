"""A server of its own for the tests in this folder, which must bear everything that they do to it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.hostile.raw import Endpoint, Raw
from tests.support.apiserver_process import ApiServerProcess

MEMORY_MIB_MAX = 400


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServerProcess]:
    """The server; at the end of the module it must still be the same process, of bounded size, with a clean log."""
    server = ApiServerProcess(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    assert server.process is not None and server.process.poll() is None, "the server died"
    memory_mib = server.memory_mib()
    server.kill()
    assert memory_mib < MEMORY_MIB_MAX
    log = server.log.read_text()
    assert "Traceback" not in log, log[-5000:]


@pytest.fixture(scope="module")
def endpoint(process: ApiServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Endpoint:
    return Endpoint.of(process.kubeconfig, tmp_path_factory.mktemp("credentials"))


@pytest.fixture
def raw(endpoint: Endpoint) -> Iterator[Raw]:
    """An administrator's connection; after the test the server must still answer others."""
    client = Raw(endpoint)
    yield client
    client.close()
    other = Raw(endpoint)
    assert other.ask("GET", "/readyz").status == 200
    assert other.ask("GET", "/api/v1/namespaces/default").status == 200
    other.close()


@pytest.fixture
def namespace(raw: Raw) -> str:
    """A namespace of the test's own."""
    name = f"h-{uuid.uuid4().hex[:8]}"
    assert raw.ask("POST", "/api/v1/namespaces", {"metadata": {"name": name}}).status == 201
    return name
