"""What the documentation shows works as shown."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from click.testing import CliRunner

from proa.cli import cli
from proa.kubelet.simulated.configuration import parse

ROOT = Path(__file__).parents[2]


def test_the_testing_page_s_example() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "testing.md").read_text(), re.DOTALL)
    names: dict[str, object] = {}
    exec(blocks[0], names)
    test = names["test_rollout"]
    assert callable(test)
    test()


def test_readme_names_commands_that_exist() -> None:
    offered = CliRunner().invoke(cli, ["--help"]).output
    named = re.findall(r"\.venv/bin/proa ([a-z]+)", (ROOT / "README.md").read_text())
    assert named and all(re.search(rf"^  {one} ", offered, re.MULTILINE) for one in named)
    for link in re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / link).exists(), link


def test_the_simulated_nodes_page_s_examples() -> None:
    text = (ROOT / "docs" / "simulated-nodes.md").read_text()
    head = "apiVersion: simulation.proa.dev/v1\nkind: Simulation\n"
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    parsed = [parse(yaml.safe_load(one if one.startswith("apiVersion") else head + one)) for one in blocks]
    assert parsed[0].lives and [group.count for group in parsed[1].nodes(100)] == [20, 80]
    exec(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0], {})


def test_examples_name_files_that_exist() -> None:
    for readme in (ROOT / "examples").glob("*/README.md"):
        for named in re.findall(r"examples/[\w./-]+", readme.read_text()):
            assert (ROOT / named).exists(), named
