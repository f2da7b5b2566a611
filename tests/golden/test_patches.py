"""Golden cases of patches: `patches-*.txt`, each readable alone.

A case begins with `== title`. YAML parts follow, separated by lines of dashes: the document and the patch (for apply:
the appliers' steps), then, behind `----`, what comes out: a document, or `error CODE: message`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proa.meta.codec import yaml
from proa.meta.errors import StatusError
from proa.meta.patch import JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, apply_patch
from proa.meta.patch.apply import apply
from proa.meta.patch.fieldset import paths
from proa.meta.patch.managed import OneVersion, track
from proa.meta.patch.shape import of_definition

HERE = Path(__file__).parent
TYPES = {"json": JSON_PATCH, "merge": MERGE_PATCH, "strategic": STRATEGIC_PATCH}


def cases(theme: str) -> Iterator[tuple[str, list[str], str]]:
    """Yields (title, parts, expected) of one file."""
    text = (HERE / f"patches-{theme}.txt").read_text()
    for case in re.split(r"^== ", text, flags=re.MULTILINE)[1:]:
        title, _, body = case.partition("\n")
        given, _, expected = body.partition("\n----\n")
        yield title, re.split(r"^---$", given, flags=re.MULTILINE), expected.strip()


def all_cases(*themes: str) -> list[Any]:
    return [
        pytest.param(theme, parts, expected, id=f"{theme}: {title}")
        for theme in themes
        for title, parts, expected in cases(theme)
    ]


def shown(value: Any) -> str:
    return yaml.encode(value).decode().strip()


@pytest.mark.parametrize(("theme", "parts", "expected"), all_cases(*TYPES))
def test_patch(theme: str, parts: list[str], expected: str) -> None:
    definition, _, first = parts[0].partition("\n")
    document, patch = yaml.decode(first.encode()), yaml.decode(parts[1].encode())
    try:
        found = shown(apply_patch(TYPES[theme], document, patch, definition.strip())[0])
    except StatusError as error:
        found = f"error {error.code}: {error.message.strip()}"
    assert found == (expected if expected.startswith("error ") else shown(yaml.decode(expected.encode())))


def carried_out(definition: str, steps: list[str]) -> Any:
    """Returns the object after all steps; raises StatusError."""
    *_, version, kind = definition.split(".")
    api_version = {"Deployment": "apps/v1"}.get(kind, version)
    identity = {"apiVersion": api_version, "kind": kind}
    versions = OneVersion(api_version, of_definition(definition))
    more: dict[str, Any] = {"empty": identity | {"metadata": {}}, "api_version": api_version, "versions": versions}
    live: Any = None
    for number, step in enumerate(steps):
        words, _, text = step.strip().partition("\n")
        how, manager = words.split()
        more |= {"now": f"2026-01-01T00:00:{number:02d}Z", "manager": manager}
        obj = identity | (yaml.decode(text.encode()) or {})
        if how == "update":
            obj |= {"metadata": (live or {}).get("metadata", {}) | (obj.get("metadata") or {})}
            live = track(live, obj, **more)
        else:
            live = apply(live, obj, kind=kind, force=how == "force", **more)
    return live


@pytest.mark.parametrize(("theme", "parts", "expected"), all_cases("apply"))
def test_apply(theme: str, parts: list[str], expected: str) -> None:
    try:
        live = carried_out(parts[0].strip(), parts[1:])
    except StatusError as error:
        found = f"error {error.code}: {error.message}"
    else:
        owners = [
            f"{entry['manager']} ({entry['operation']}): {' '.join(paths(entry['fieldsV1']))}"
            for entry in live["metadata"].pop("managedFields", [])
        ]
        content = {key: value for key, value in live.items() if key not in ("apiVersion", "kind", "metadata")}
        found = "\n".join([shown(content), *owners])
    assert found.replace("'", '"') == expected
