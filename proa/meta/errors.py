"""Errors as the API shows them: `StatusError`, which becomes a Status object, and `FieldError`, one cause in it.

Codes, reasons and the structure of details follow upstream's apimachinery `api/errors` and `util/validation/field`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import msgspec

from proa.meta.gvk import GVK, GVR
from proa.meta.objects import Obj


class StatusError(Exception):
    """A request that failed in a way a client can act on.

    `details` is the Status' `details` without nulls; `retry_after_seconds` also becomes the Retry-After header. `token`
    is where a list may continue that has expired.
    """

    def __init__(self, code: int, reason: str, message: str, details: Obj | None = None, token: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.token = token

    @property
    def retry_after_seconds(self) -> int | None:
        return (self.details or {}).get("retryAfterSeconds")

    def to_status(self) -> Obj:
        """Returns the Status object, keys in upstream's order."""
        status: Obj = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {"continue": self.token} if self.token else {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            status["reason"] = self.reason
        if self.details is not None:
            status["details"] = self.details
        status["code"] = self.code
        return status

    @classmethod
    def from_status(cls, status: Obj) -> StatusError:
        """Returns the error that a Status object (of a remote server) stands for."""
        return cls(
            status.get("code") or 500,
            status.get("reason") or "",
            status.get("message") or "",
            status.get("details"),
            (status.get("metadata") or {}).get("continue") or "",
        )


def _details(resource: GVR, name: str, **more: Any) -> Obj:
    details: Obj = {}
    if name:
        details["name"] = name
    if resource.group:
        details["group"] = resource.group
    if resource.resource:
        details["kind"] = resource.resource
    details.update(more)
    return details


def not_found(resource: GVR, name: str) -> StatusError:
    message = f'{resource.group_resource} "{name}" not found'
    return StatusError(404, "NotFound", message, _details(resource, name))


def already_exists(resource: GVR, name: str) -> StatusError:
    message = f'{resource.group_resource} "{name}" already exists'
    return StatusError(409, "AlreadyExists", message, _details(resource, name))


def conflict(resource: GVR, name: str, why: str) -> StatusError:
    message = f'Operation cannot be fulfilled on {resource.group_resource} "{name}": {why}'
    return StatusError(409, "Conflict", message, _details(resource, name))


MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def forbidden(resource: GVR, name: str, why: str) -> StatusError:
    quoted = f' "{name}"' if name else ""
    message = f"{resource.group_resource}{quoted} is forbidden: {why}" if resource.resource else f"forbidden: {why}"
    return StatusError(403, "Forbidden", message, _details(resource, name))


def unauthorized(message: str = "Unauthorized") -> StatusError:
    return StatusError(401, "Unauthorized", message)


def rejected() -> StatusError:
    """422 for a patch that cannot be carried out; upstream does not say why."""
    return StatusError(422, "Invalid", "the server rejected our request due to an error in our request", {})


def bad_request(message: str) -> StatusError:
    return StatusError(400, "BadRequest", message)


def method_not_supported(resource: GVR, verb: str) -> StatusError:
    message = f'{verb} is not supported on resources of kind "{resource.group_resource}"'
    return StatusError(405, "MethodNotAllowed", message, _details(resource, ""))


def gone(message: str, token: str = "") -> StatusError:
    """410 with reason Expired: a resourceVersion or continue token that is no longer retained; `token` goes on."""
    return StatusError(410, "Expired", message, token=token)


def too_many_requests(message: str, retry_after_seconds: int) -> StatusError:
    return StatusError(429, "TooManyRequests", message, {"retryAfterSeconds": retry_after_seconds})


def unavailable(message: str) -> StatusError:
    return StatusError(503, "ServiceUnavailable", message)


def timeout(message: str, retry_after_seconds: int = 0) -> StatusError:
    details = {"retryAfterSeconds": retry_after_seconds} if retry_after_seconds else None
    return StatusError(504, "Timeout", message, details)


def internal(message: str) -> StatusError:
    return StatusError(500, "InternalError", f"Internal error occurred: {message}", {"causes": [{"message": message}]})


# ---------------------------------------------------------------- field errors

# (reason in a cause, how the message names it), by upstream's field.ErrorType
NOT_FOUND = "FieldValueNotFound"
REQUIRED = "FieldValueRequired"
DUPLICATE = "FieldValueDuplicate"
INVALID = "FieldValueInvalid"
NOT_SUPPORTED = "FieldValueNotSupported"
FORBIDDEN = "FieldValueForbidden"
TOO_LONG = "FieldValueTooLong"
TOO_MANY = "FieldValueTooMany"
INTERNAL = "InternalError"
TYPE_INVALID = "FieldValueTypeInvalid"

# The value of an error that does not show one.
OMITTED: Any = object()

_NAMES = {
    NOT_FOUND: "Not found",
    REQUIRED: "Required value",
    DUPLICATE: "Duplicate value",
    INVALID: "Invalid value",
    NOT_SUPPORTED: "Unsupported value",
    FORBIDDEN: "Forbidden",
    TOO_LONG: "Too long",
    TOO_MANY: "Too many",
    INTERNAL: "Internal error",
    TYPE_INVALID: "Invalid value",
}


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing that is wrong with one field. `path` is as upstream writes it: `spec.ports[0].name`."""

    type: str
    path: str
    value: Any
    detail: str

    @property
    def message(self) -> str:
        """What a cause's message says: the error without its field."""
        text = _NAMES[self.type]
        if self.type not in (REQUIRED, FORBIDDEN, TOO_LONG, INTERNAL, TOO_MANY) and self.value is not OMITTED:
            text += f": {_shown(self.value)}"
        return f"{text}: {self.detail}" if self.detail else text

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def _shown(value: Any) -> str:
    if isinstance(value, str | bool | int | float | dict | list):
        return msgspec.json.encode(value).decode()
    return "null" if value is None else str(value)


def invalid_field(path: str, value: Any, detail: str) -> FieldError:
    return FieldError(INVALID, path, value, detail)


def required_field(path: str, detail: str = "") -> FieldError:
    return FieldError(REQUIRED, path, "", detail)


def duplicate_field(path: str, value: Any) -> FieldError:
    return FieldError(DUPLICATE, path, value, "")


def forbidden_field(path: str, detail: str) -> FieldError:
    return FieldError(FORBIDDEN, path, "", detail)


def not_found_field(path: str, value: Any) -> FieldError:
    return FieldError(NOT_FOUND, path, value, "")


def unsupported_field(path: str, value: Any, supported: Iterable[str]) -> FieldError:
    listed = ", ".join(f'"{one}"' for one in supported)
    return FieldError(NOT_SUPPORTED, path, value, f"supported values: {listed}" if listed else "")


def too_long_field(path: str, value: Any, length_max: int) -> FieldError:
    return FieldError(TOO_LONG, path, value, f"may not be more than {length_max} bytes")


def too_many_field(path: str, count: int, count_max: int) -> FieldError:
    return FieldError(TOO_MANY, path, count, f"must have at most {count_max} items")


FIELD_ERRORS_MAX = 1000  # told of one object: a small body can be wrong in a million places


def invalid(kind: GVK, name: str, errors: Sequence[FieldError]) -> StatusError:
    """422: the object is well formed but breaks rules; one cause per field error, of which the first are told."""
    errors = errors[:FIELD_ERRORS_MAX]
    texts = [str(error) for error in errors]
    shown = texts[0] if len(texts) == 1 else "[" + ", ".join(dict.fromkeys(texts)) + "]"
    qualified = f"{kind.kind}.{kind.group}" if kind.group else kind.kind
    details: Obj = {"name": name} if name else {}
    if kind.group:
        details["group"] = kind.group
    if kind.kind:
        details["kind"] = kind.kind
    details["causes"] = [{"reason": error.type, "message": error.message, "field": error.path} for error in errors]
    return StatusError(422, "Invalid", f'{qualified} "{name}" is invalid: {shown}', details)


def raise_if(kind: GVK, name: str, errors: Sequence[FieldError]) -> None:
    """Raises the 422 if there are errors."""
    if errors:
        raise invalid(kind, name, errors)


def unreachable(message: str) -> NoReturn:
    raise AssertionError(message)
