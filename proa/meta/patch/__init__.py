"""Patches: reading one from a body, applying it, and making the result an object again.

The server's order of work: `decode_patch` (bytes to patch; HTTP only), `apply_patch` (stored object and patch to a new
document) and `patched_into` (document to object, with upstream's 422s). Server-side apply is in `apply`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proa.meta.codec import json as json_codec
from proa.meta.errors import INVALID, StatusError, bad_request
from proa.meta.objects import Obj
from proa.meta.patch import json_patch, merge, strategic
from proa.meta.patch.show import go_value
from proa.meta.schema.decode import (
    IGNORE,
    STRICT,
    Mistyped,
    decode_around,
    duplicate_problems,
    strict_message,
)

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


def decode_patch(media_type: str, body: bytes) -> tuple[Any, list[str]]:
    """Reads a patch and returns it with the paths of duplicate keys; raises the 400 StatusError."""
    try:
        if media_type == APPLY_PATCH:
            from proa.meta.codec import yaml  # slow to import

            return yaml.parse_strictly(body)
        return json_codec.parse_strictly(body)
    except json_codec.Malformed as problem:
        prefix = {STRATEGIC_PATCH: "", APPLY_PATCH: "error decoding YAML: "}.get(media_type, "error decoding patch: ")
        raise bad_request(f"{prefix}{problem}") from None


def apply_patch(media_type: str, document: Obj, patch: Any, definition: str = "") -> tuple[Any, list[str]]:
    """Returns the patched document, a new one, and problems of the patch itself (for strict field validation).

    `definition` names the schema for a strategic merge. Raises StatusError: 400 and 413 for a patch that is none, 422
    or 500 for one that fails.
    """
    if media_type == JSON_PATCH:
        problems = json_patch.check(patch)
        return json_patch.apply(document, patch), problems
    if patch is None:
        raise bad_request("Invalid JSON Patch")
    if not isinstance(patch, dict):
        kind = "array" if isinstance(patch, list) else "string" if isinstance(patch, str) else "number"
        prefix = "" if media_type == STRATEGIC_PATCH else "error decoding patch: "
        raise bad_request(f"{prefix}json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}")
    if media_type == STRATEGIC_PATCH:
        return strategic.apply(document, patch, definition), []
    return merge.apply(document, patch), []


def patched_into(
    definition: str,
    patched: Any,
    mode: str,
    *,
    patch: Any = None,
    problems: Sequence[str] = (),
    duplicates: Sequence[str] = (),
    shared: Obj | None = None,
) -> tuple[Obj, list[str]]:
    """Returns the patched document as an object in Go's form, with warnings, like `decode_into`.

    `patch`, `problems` and `duplicates` are what the patch was. `shared` are members that are in that form already and
    become the object's as they are. Raises the 422 StatusError, which names field `patch`.
    """
    try:
        decoded, unknown = decode_around(definition, patched, shared or {})
    except Mistyped as problem:
        raise unfit(patch, str(problem)) from None
    found = duplicate_problems(duplicates) + list(problems) + unknown
    if found and mode == STRICT:
        raise unfit(patch, strict_message(found))
    return decoded, [] if mode == IGNORE else found


def unfit(patch: Any, problem: str) -> StatusError:
    """Returns the 422 for a patch whose outcome is no such object."""
    message = f'Invalid value: "{go_value(patch)}": {problem}'
    causes = [{"reason": INVALID, "message": message, "field": "patch"}]
    return StatusError(422, "Invalid", f' "" is invalid: patch: {message}', {"causes": causes})
