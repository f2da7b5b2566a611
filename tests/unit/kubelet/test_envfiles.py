"""Variables from files of volumes: the syntax, and what a container makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from proa.kubelet.envfiles import MalformedFile, variables
from proa.kubelet.environment import ConfigError, NodeFacts, environment
from proa.kubelet.volumes.subpath import read_inside

from .shapes import pod


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A='1'\nB='two words'", {"A": "1", "B": "two words"}),
        ("# a note\n\n  A='1' # another\nB='x#y=z'\n", {"A": "1", "B": "x#y=z"}),
        ("MOTD='two\nlines'\n", {"MOTD": "two\nlines"}),
        ("A=''\nA='last'\n", {"A": "last"}),
        ("", {}),
    ],
)
def test_syntax(text: str, found: dict[str, str]) -> None:
    assert variables(text) == found


@pytest.mark.parametrize(
    "text",
    ["A = '1'", "A=1", 'A="1"', "A", "='1'", "A='1", "A='1'x", "A='it''s'", "A" * 129 + "='1'", "#" * 65537],
)
def test_what_is_not_of_the_syntax(text: str) -> None:
    with pytest.raises(MalformedFile):
        variables(text)


def environment_of(folder: Path, **reference: object) -> dict[str, str]:
    selector = {"volumeName": "v", "path": "vars", "key": "A", **reference}
    container = {"name": "a", "env": [{"name": "X", "valueFrom": {"fileKeyRef": selector}}]}
    return environment(
        pod(container, volumes=[{"name": "v", "emptyDir": {}}]),
        container,
        node=NodeFacts(name="n"),
        pod_ips=(),
        services=[],
        lookup=lambda kind, name: None,
        read_file=lambda volume, path: read_inside(folder, path, 70000),
    )


def test_a_variable_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "vars").write_text("A='1'\nEMPTY=''\n")
    assert environment_of(tmp_path) == {"X": "1"}
    assert environment_of(tmp_path, key="B", optional=True) == {}
    for key in ("B", "EMPTY"):
        with pytest.raises(ConfigError, match=f'environment variable key "{key}" not found in file "vars"'):
            environment_of(tmp_path, key=key)
    with pytest.raises(ConfigError, match="couldn't parse env file"):
        environment_of(tmp_path, path="none", optional=True)
    with pytest.raises(ConfigError, match='cannot find the volume "w" referenced by FileKeyRef'):
        environment_of(tmp_path, volumeName="w")


def test_no_path_leads_out_of_the_volume(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (tmp_path / "secret").write_text("A='outside'\n")
    (volume / "vars").symlink_to("../secret")
    with pytest.raises(ConfigError):
        environment_of(volume)
