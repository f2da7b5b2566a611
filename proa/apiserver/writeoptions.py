"""The options of writes: dryRun, fieldManager, fieldValidation, force; checked as upstream's CreateOptions,
UpdateOptions, PatchOptions and DeleteOptions are."""

from __future__ import annotations

from collections.abc import Sequence

from proa.client.interface import APPLY_PATCH, ApiRequest
from proa.meta.errors import (
    FieldError,
    forbidden_field,
    invalid,
    invalid_field,
    required_field,
    too_long_field,
    unsupported_field,
)
from proa.meta.gvk import GVK
from proa.meta.metadata import MANAGER_LENGTH_MAX

_KINDS = {
    "create": "CreateOptions",
    "update": "UpdateOptions",
    "patch": "PatchOptions",
    "delete": "DeleteOptions",
    "deletecollection": "DeleteOptions",
}
_VALIDATIONS = ("", "Ignore", "Strict", "Warn")


def check_write_options(request: ApiRequest) -> bool:
    """Tells whether a write is a dry run; raises the 422 StatusError for options that make no sense."""
    kind = _KINDS.get(request.verb)
    parameters = request.parameters
    if kind is None or not (parameters or kind == "DeleteOptions" or request.patch_type == APPLY_PATCH):
        return False
    dry_run: Sequence[str] = [parameters["dryRun"]] if "dryRun" in parameters else []
    errors: list[FieldError] = []
    if kind == "DeleteOptions":
        if isinstance(request.body, dict) and request.body:
            dry_run = request.body.get("dryRun") or []
    else:
        manager = parameters.get("fieldManager", "")
        if request.verb == "patch":
            errors += _patch_errors(request, manager)
        errors += _manager_errors(manager)
        validation = parameters.get("fieldValidation", "")
        if validation not in _VALIDATIONS:
            errors.append(unsupported_field("fieldValidation", validation, _VALIDATIONS))
    if any(one != "All" for one in dry_run):
        errors.insert(0, unsupported_field("dryRun", list(dry_run), ["All"]))
    if errors:
        raise invalid(GVK("meta.k8s.io", "", kind), "", errors)
    return bool(dry_run)


def _patch_errors(request: ApiRequest, manager: str) -> list[FieldError]:
    if request.patch_type == APPLY_PATCH:
        return [] if manager else [required_field("fieldManager", "is required for apply patch")]
    if "force" in request.parameters:
        return [forbidden_field("force", "may not be specified for non-apply patch")]
    return []


def _manager_errors(manager: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if len(manager.encode()) > MANAGER_LENGTH_MAX:
        errors.append(too_long_field("fieldManager", manager, MANAGER_LENGTH_MAX))
    for place, character in enumerate(manager):
        if not character.isprintable():
            detail = f"invalid character U+{ord(character):04X} (at position {place})"
            errors.append(invalid_field("fieldManager", manager, detail))
            break
    return errors
