"""What the documentation shows works as shown."""

from __future__ import annotations

import re
from pathlib import Path

from click.testing import CliRunner

from proa.cli import cli

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
