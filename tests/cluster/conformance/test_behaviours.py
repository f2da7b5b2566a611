"""Every behaviour of upstream's conformance suite has a test of its name; no test claims a name that does not exist."""

from __future__ import annotations

import ast
import functools
from collections import Counter
from pathlib import Path

import yaml

from tests.recorded import folder


def behaviours() -> dict[str, str]:
    """Returns the area of each behaviour, by name."""
    listed = yaml.safe_load((folder().parent / "conformance" / "behaviours.yaml").read_text())
    return {one["name"]: area["area"] for area in listed for one in area["behaviours"]}


@functools.cache
def claimed() -> Counter[str]:
    """Returns the names in all tests' `behaviour` marks."""
    found: Counter[str] = Counter()
    for path in Path(__file__).parents[2].rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "behaviour":
                found.update(ast.literal_eval(argument) for argument in node.args)
    return found


def test_names_exist() -> None:
    assert set(claimed()) <= set(behaviours())


def test_every_behaviour_has_a_test() -> None:
    missing = {name: area for name, area in behaviours().items() if name not in claimed()}
    assert not missing, missing
