"""Checks that many kinds share: each returns field errors, empty if all is well.

The rules and their order are those of upstream's `apimachinery/pkg/api/validation` and `pkg/apis/core/validation`.
Paths are texts as Status causes show them (`spec.ports[0].name`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address
from typing import Any

from proa.meta import names
from proa.meta.errors import (
    FieldError,
    duplicate_field,
    invalid_field,
    required_field,
    unsupported_field,
)
from proa.meta.metadata import validate_annotations, validate_labels
from proa.meta.objects import Obj
from proa.meta.selectors import LabelSelector, from_object, validate_selector

Errors = list[FieldError]

# How upstream writes the path of the object itself.
ROOT = "[]"

NEGATIVE = "must be greater than or equal to 0"
IMMUTABLE = "field is immutable"


def problems(found: Iterable[str], path: str, value: Any) -> Errors:
    """Turns the problems that a function of `proa.meta.names` found into field errors."""
    return [invalid_field(path, value, problem) for problem in found]


def nonnegative(value: int | None, path: str) -> Errors:
    return [invalid_field(path, value, NEGATIVE)] if value is not None and value < 0 else []


def positive(value: int | None, path: str, detail: str = "must be greater than 0") -> Errors:
    return [invalid_field(path, value, detail)] if value is not None and value <= 0 else []


def one_of(value: str | None, path: str, supported: Sequence[str], *, missing: str = "") -> Errors:
    """Checks an enumeration; with `missing` == "required" an empty value is a required field's, with "skip" fine."""
    if value in supported:
        return []
    if not value and missing == "required":
        return [required_field(path)]
    if not value and missing == "skip":
        return []
    return [unsupported_field(path, value or "", supported)]


def immutable(new: Any, old: Any, path: str) -> Errors:
    return [] if new == old else [invalid_field(path, new, IMMUTABLE)]


def port_number(value: int, path: str) -> Errors:
    return problems(names.port_number(value), path, value)


def port_reference(value: int | str | None, path: str) -> Errors:
    """A port by number or by name."""
    if isinstance(value, str):
        return problems(names.port_name(value), path, value)
    return port_number(value or 0, path)


def int_or_percent_nonnegative(value: int | str | None, path: str) -> Errors:
    if isinstance(value, str):
        return problems(names.percent(value), path, value)
    return nonnegative(value, path)


def not_more_than_all(value: int | str | None, path: str) -> Errors:
    """At most 100%."""
    match = re.fullmatch("([0-9]+)%", value) if isinstance(value, str) else None
    if match and int(match[1]) > 100:
        return [invalid_field(path, value, "must not be greater than 100%")]
    return []


def absolute_number(value: int | str | None) -> int:
    """Returns the number of an int-or-percent as upstream reads it for comparisons with zero."""
    if isinstance(value, str):
        match = re.fullmatch("([0-9]+)%", value)
        return int(match[1]) if match else 0
    return value or 0


def label_map(value: dict[str, str] | None, path: str) -> Errors:
    return validate_labels(value, path) if value else []


def annotation_map(value: dict[str, str] | None, path: str) -> Errors:
    return validate_annotations(value, path) if value else []


def label_selector(selector: Obj | None, path: str) -> Errors:
    """Checks a metav1.LabelSelector."""
    return validate_selector(selector, path) if selector else []


def parsed_selector(selector: Obj | None) -> LabelSelector | None:
    """Returns the selector's matcher, or None if it cannot be one (an unknown operator, values missing)."""
    try:
        return from_object(selector)
    except ValueError:
        return None


def ip(value: str, path: str) -> Errors:
    return problems(names.ip(value), path, value)


def is_ipv6(text: str) -> bool:
    return ":" in text


def endpoint_ip(value: str, path: str) -> Errors:
    """An address that traffic can go to: not unspecified, loopback, link-local or multicast."""
    errors = ip(value, path)
    if errors:
        return errors
    address = ip_address(value)
    if address.is_unspecified:
        errors.append(invalid_field(path, value, f"may not be unspecified ({value!r})".replace("'", '"')))
    if address.is_loopback:
        errors.append(invalid_field(path, value, "may not be in the loopback range (127.0.0.0/8, ::1/128)"))
    if address.is_link_local:
        errors.append(invalid_field(path, value, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"))
    if address.is_multicast and _is_link_local_multicast(value):
        detail = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
        errors.append(invalid_field(path, value, detail))
    return errors


def _is_link_local_multicast(text: str) -> bool:
    return text.startswith(("224.0.0.", "ff02:"))


def unique(items: Iterable[Any], path: str, key: Callable[[Any], Any], field: str = "") -> Errors:
    """One error for each item whose (true) key was there before; at `path[index].field`."""
    errors: Errors = []
    seen: set[Any] = set()
    for index, item in enumerate(items):
        value = key(item)
        if not value:
            continue
        if value in seen:
            errors.append(duplicate_field(f"{path}[{index}]{'.' + field if field else ''}", value))
        seen.add(value)
    return errors


def local_path(value: str, path: str) -> Errors:
    """A relative path that does not leave its directory."""
    if value.startswith("/"):
        return [invalid_field(path, value, "must be a relative path")]
    return path_without_backsteps(value, path)


def path_without_backsteps(value: str, path: str) -> Errors:
    return [invalid_field(path, value, "must not contain '..'")] if ".." in value.split("/") else []


def local_nonreserved_path(value: str, path: str) -> Errors:
    """A relative path that does not begin with `..`, which volumes keep for themselves."""
    errors = local_path(value, path)
    if value.startswith("..") and not value.startswith("../"):
        errors.append(invalid_field(path, value, "must not start with '..'"))
    return errors


def normalized(value: Any) -> Any:
    """Returns JSON data without nulls and empty containers: what upstream's semantic equality compares."""
    if isinstance(value, dict):
        made = {key: normalized(item) for key, item in value.items()}
        return {key: item for key, item in made.items() if item not in (None, {}, [])}
    if isinstance(value, list):
        return [normalized(item) for item in value]
    return value


def same(new: Any, old: Any) -> bool:
    """Tells whether two values are equal, absent and empty ones too."""
    return bool(new == old or normalized(new) == normalized(old))
