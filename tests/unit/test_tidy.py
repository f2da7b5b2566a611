"""The repository tests itself: what a reader relies on and no other check sees."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "proa").rglob("*.py"))
LINES_MAX = 900
IMPURE = {"asyncio", "socket", "ssl", "subprocess", "threading", "random", "time", "os", "pathlib", "secrets"}


def is_pure(path: Path) -> bool:
    inside = path.relative_to(ROOT / "proa").parts
    if inside[0] == "scheduler":
        return path.name not in ("run.py", "binding.py", "calls.py", "loading.py")
    return (inside[0] in ("meta", "apis") and "schema" not in inside) or path.name == "plan.py"


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module(path: Path) -> None:
    text = path.read_text()
    if "_pb2" in path.name:
        return
    assert not text.strip() or ast.get_docstring(ast.parse(text)), "a module says what it is for"
    assert len(text.splitlines()) <= LINES_MAX, "a module this long holds two things"
    if is_pure(path):
        assert not imported(path) & IMPURE, "a pure module does no I/O"


def test_tests_do_not_sleep() -> None:
    for path in (ROOT / "tests").rglob("test_*.py"):
        text = path.read_text()
        assert "time.sleep(" not in text or path == Path(__file__), f"{path}: wait for a condition instead"
