"""What config maps and secrets share: keys and sizes of their data, immutability."""

from __future__ import annotations

from collections.abc import Mapping

from proa.apis.fields import ROOT, Errors, problems
from proa.meta import names
from proa.meta.errors import FieldError, forbidden_field
from proa.meta.objects import Obj

SIZE_MAX = 1 << 20
_BASE64_FIELDS = ("binaryData",)


def decoded_size(text: str) -> int:
    """Returns the number of bytes that a base64 text stands for."""
    return len(text) * 3 // 4 - text.count("=", -2)


def keys_and_size(fields: Mapping[str, Mapping[str, str]], obj: Obj) -> Errors:
    """Checks the keys of all fields and their size together; values of a secret and binaryData are base64."""
    errors: Errors = []
    size = 0
    for field, values in fields.items():
        encoded = field in _BASE64_FIELDS or "type" in obj
        for key, value in values.items():
            errors += problems(names.config_key(key), f"{field}[{key}]", key)
            size += decoded_size(value) if encoded else len(value.encode())
    if size > SIZE_MAX:
        path = "data" if "type" in obj else ROOT
        errors.append(FieldError("FieldValueTooLong", path, "", f"may not be more than {SIZE_MAX} bytes"))
    return errors


def unchanged_if_immutable(obj: Obj, old: Obj, fields: tuple[str, ...]) -> Errors:
    if not old.get("immutable"):
        return []
    detail = "field is immutable when `immutable` is set"
    errors: Errors = []
    if not obj.get("immutable"):
        errors.append(forbidden_field("immutable", detail))
    errors += [forbidden_field(field, detail) for field in fields if (obj.get(field) or {}) != (old.get(field) or {})]
    return errors
