"""The server's version, as clients read it."""

from __future__ import annotations

import re

import pytest

from tests.cluster.conformance.conftest import Api

pytestmark = pytest.mark.cluster


@pytest.mark.behaviour("[sig-api-machinery] server version should find the server version")
def test_version(api: Api) -> None:
    version = api.get("/version").ok()
    assert version["major"] == "1" and re.fullmatch(r"\d+", version["minor"])
    assert version["gitVersion"].startswith(f"v1.{version['minor']}.")
