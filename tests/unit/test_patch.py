"""Patches against recorded exchanges: each recorded answer is the document that the next patch applies to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from proa.meta.codec import json as json_codec
from proa.meta.errors import StatusError
from proa.meta.gvk import GVK, split_api_version
from proa.meta.patch import apply_patch, decode_patch, merge, patched_into
from proa.meta.patch.strategic import apply
from proa.meta.schema.catalog import catalog
from tests.unit import recorded
from tests.unit.test_schema import filled

TYPES = {
    "patch-json": "application/json-patch+json",
    "patch-merge": "application/merge-patch+json",
    "patch-strategic": "application/strategic-merge-patch+json",
}
OTHERS_JOB = (
    "does not match the name",
    "undeterminable",
    "namespace of the provided",
    "is invalid: ",
    "registered for",
)


def cases() -> Iterator[tuple[str, str, dict[str, Any], dict[str, Any], Any, dict[str, Any]]]:
    """Yields (case, media type, request, document, recorded answer, answer's body)."""
    for theme, media_type in TYPES.items():
        documents: dict[str, Any] = {}
        for number, (sequence, request, response) in enumerate(recorded.steps(theme)):
            body = filled(response.get("body"))
            path = request["path"].partition("?")[0].removesuffix("/status")
            if request["method"] == "PATCH" and path in documents and "repeat" not in request:
                yield f"{theme}/{sequence}/{number}", media_type, request, documents[path], response, body
            if response["status"] < 300 and isinstance(body, dict) and body.get("kind") != "Status":
                key = path if request["method"] != "POST" else f"{path}/{body['metadata']['name']}"
                documents[key] = body


def agrees(found: Any, expected: Any, before: Any) -> bool:
    """Tells whether `found` is the expected value but for defaults, which patches don't know; nothing may linger."""
    if isinstance(found, dict) and isinstance(expected, dict):
        previous = before if isinstance(before, dict) else {}
        kept = all(key in expected and agrees(item, expected[key], previous.get(key)) for key, item in found.items())
        return kept and not any(
            key in expected and key not in found for key in previous if previous[key] != expected.get(key)
        )
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(
            agrees(one, two, None) for one, two in zip(found, expected, strict=True)
        )
    return bool(found == expected)


SERVERS = {"resourceVersion", "generation", "creationTimestamp", "uid", "managedFields"}


def without_server_fields(obj: dict[str, Any]) -> dict[str, Any]:
    meta = {key: value for key, value in obj["metadata"].items() if key not in SERVERS}
    return obj | {"metadata": meta}


def run(media_type: str, request: dict[str, Any], document: Any) -> tuple[Any, list[str]]:
    body = json_codec.encode(request["body"]) if "body" in request else request["text"].encode()
    patch, duplicates = decode_patch(media_type, body)
    kinds = {kind: name for name in catalog().names for kind in catalog()[name].kinds}
    definition = kinds[GVK(*split_api_version(document["apiVersion"]), document["kind"])]
    patched, problems = apply_patch(media_type, document, patch, definition)
    return patched_into(definition, patched, "Warn", patch=patch, problems=problems, duplicates=duplicates)


@pytest.mark.parametrize("theme", TYPES)
def test_as_recorded(theme: str) -> None:
    checked = refused = 0
    for case, media_type, request, document, response, body in cases():
        if not case.startswith(theme + "/"):
            continue
        message = body.get("message", "") if isinstance(body, dict) else ""
        if response["status"] < 300:
            found, problems = run(media_type, request, document)
            if request["path"].endswith("/status"):
                found, body, document = found["status"], body["status"], document["status"]
            else:
                found, body, document = map(without_server_fields, (found, body, document))
                for part in ("status", "kind", "apiVersion"):
                    found.pop(part, None)
            assert agrees(found, body, document), f"{case}: {request} {found} != {body}"
            warnings = [one for one in (response.get("headers") or {}).get("Warning") or () if "unknown" in one]
            assert len(problems) == len(warnings), case
            checked += 1
        elif not any(part in message for part in OTHERS_JOB) or "is invalid: patch" in message:
            if "registered for version" in message or "illegal base64" in message:
                continue  # a changed kind is found out by the server
            with pytest.raises(StatusError) as caught:
                run(media_type, request, document)
            status = caught.value.to_status()
            assert (caught.value.code, status.get("reason")) == (response["status"], body.get("reason")), case
            causes = (status.get("details") or {}).get("causes") or []
            expected = (body.get("details") or {}).get("causes") or []
            assert [cause["field"] for cause in causes] == [cause["field"] for cause in expected], case
            refused += 1
    assert checked >= 10 and refused >= 5


def test_a_patch_leaves_its_arguments_alone() -> None:
    document = {"metadata": {"finalizers": ["a"]}, "data": {"x": "y"}}
    patch = {"metadata": {"$setElementOrder/finalizers": ["b", "a"], "finalizers": ["b"]}, "data": {"$patch": "delete"}}
    before = json_codec.encode([document, patch])
    patched = apply(document, patch, "io.k8s.api.core.v1.ConfigMap")
    assert patched == {"metadata": {"finalizers": ["b", "a"]}, "data": {}}
    assert json_codec.encode([document, patch]) == before
    assert merge.apply(document, {"data": None}) == {"metadata": {"finalizers": ["a"]}}
    assert json_codec.encode([document, patch]) == before


@pytest.mark.parametrize("operations", [10_001])
def test_too_many_operations(operations: int) -> None:
    patch = [{"op": "test", "path": "/a", "value": None}] * operations
    with pytest.raises(StatusError) as caught:
        apply_patch(TYPES["patch-json"], {}, patch)
    assert caught.value.code == 413
    assert apply_patch(TYPES["patch-json"], {}, patch[1:]) == ({}, [])


@pytest.mark.parametrize(
    ("old", "new", "patch"),
    [
        ({"a": 1}, {"a": 1}, {}),
        ({"a": 1, "b": {"c": 1, "d": 2}}, {"b": {"c": 1, "d": 3}}, {"a": None, "b": {"d": 3}}),
        ({"a": [1]}, {"a": [1, 2]}, {"a": [1, 2]}),
    ],
)
def test_merge_difference(old: Any, new: Any, patch: Any) -> None:
    assert merge.difference(old, new) == patch
    assert merge.apply(old, patch) == new


def test_strange_json_patches() -> None:
    def patched(document: Any, *operations: dict[str, Any]) -> Any:
        return apply_patch(TYPES["patch-json"], document, list(operations))[0]

    assert patched({"a": []}, {"op": "copy", "from": "/x", "path": "/b"}) == {"a": [], "b": None}
    assert patched({"a": [1, 2]}, {"op": "remove", "path": "/a/-1"}) == {"a": [1]}
    assert patched({"~": {"/": 1}}, {"op": "remove", "path": "/~0/~1"}) == {"~": {}}
    for bad in (
        {"op": "move", "from": "/x", "path": "/y"},
        {"op": "add", "path": ""},
        {"op": "test", "path": "/a", "value": True},
    ):
        with pytest.raises(StatusError) as caught:
            patched({"a": 1}, bad)
        assert caught.value.code == 422
