"""What is valid in the device requests of resource claims and in device classes (dynamic resource allocation).

CEL selectors are checked for presence here; compiling them is left to their user.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from proa.apis import fields
from proa.apis.fields import Errors, problems
from proa.apis.shape import child, children, drop_zero, null_if_empty, set_default
from proa.meta import names
from proa.meta.errors import (
    duplicate_field,
    invalid_field,
    required_field,
    too_many_field,
    unsupported_field,
)
from proa.meta.objects import Obj

REQUESTS_MAX = 32
SUBREQUESTS_MAX = 8
SELECTORS_MAX = 32
CONSTRAINTS_MAX = 32
CONFIGS_MAX = 32
_MODES = ("All", "ExactCount")
_DRIVER_LENGTH_MAX = 63
_C_IDENTIFIER = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_ONE_OF = "exactly one of `exactly` or `firstAvailable` is required"


def default_claim_spec(spec: Obj) -> None:
    """Fills in the allocation mode and count of each request."""
    devices = child(spec, "devices")
    null_if_empty(devices, "requests")
    drop_zero(devices, "constraints", "config")
    for request in children(devices, "requests"):
        if request.get("exactly") is not None:
            _default_request(request["exactly"])
        for one in children(request, "firstAvailable"):
            _default_request(one)


def _default_request(request: Obj) -> None:
    if not request.get("allocationMode"):
        request["allocationMode"] = "ExactCount"
    if request["allocationMode"] == "ExactCount" and not request.get("count"):
        request["count"] = 1
    drop_zero(request, "selectors", "tolerations")
    for toleration in children(request, "tolerations"):
        set_default(toleration, "operator", "Equal")


def driver_name(driver: str, path: str) -> Errors:
    """A DNS subdomain of at most 63 characters."""
    if not driver:
        return [required_field(path)]
    errors = problems(names.dns1123_subdomain(driver), path, driver)
    if len(driver) > _DRIVER_LENGTH_MAX:
        errors.append(invalid_field(path, driver, names.too_long(_DRIVER_LENGTH_MAX)))
    return errors


def limited(items: list[Obj], most: int, path: str, check: Callable[[Obj, str], Errors]) -> Errors:
    """Checks each item, and that there are not too many."""
    errors = [too_many_field(path, len(items), most)] if len(items) > most else []
    for index, item in enumerate(items):
        errors += check(item, f"{path}[{index}]")
    return errors


def claim_spec(spec: Obj, path: str) -> Errors:
    """Checks a ResourceClaim's spec."""
    devices, path = spec.get("devices") or {}, f"{path}.devices"
    requests = children(devices, "requests")
    errors = limited(requests, REQUESTS_MAX, f"{path}.requests", _request)
    names_taken: list[str] = []
    for index, request in enumerate(requests):
        name = request.get("name") or ""
        if name and name in names_taken:
            errors.append(duplicate_field(f"{path}.requests[{index}]", name))
        names_taken.append(name)
    known = set(names_taken) | {
        f"{request.get('name')}/{sub.get('name')}"
        for request in requests
        for sub in children(request, "firstAvailable")
    }
    constraints, configs = children(devices, "constraints"), children(devices, "config")
    errors += limited(constraints, CONSTRAINTS_MAX, f"{path}.constraints", lambda o, p: _constraint(o, p, known))
    return errors + limited(
        configs,
        CONFIGS_MAX,
        f"{path}.config",
        lambda o, p: _names_of_requests(o, p, known) + device_config(o, p),
    )


def _request(request: Obj, path: str) -> Errors:
    name, exactly, choices = request.get("name") or "", request.get("exactly"), children(request, "firstAvailable")
    errors = [required_field(f"{path}.name")] if not name else []
    errors += problems(names.dns1123_label(name), f"{path}.name", name) if name else []
    if exactly is not None and choices:
        errors.append(invalid_field(path, None, _ONE_OF))
    elif exactly is None and not choices:
        errors.append(required_field(path, _ONE_OF))
    if exactly is not None:
        errors += _device_request(exactly, f"{path}.exactly")
    errors += limited(choices, SUBREQUESTS_MAX, f"{path}.firstAvailable", _subrequest)
    return errors + fields.unique(choices, f"{path}.firstAvailable", lambda one: one.get("name"))


def _subrequest(request: Obj, path: str) -> Errors:
    name = request.get("name") or ""
    errors = problems(names.dns1123_label(name), f"{path}.name", name) if name else [required_field(f"{path}.name")]
    return errors + _device_request(request, path)


def _device_request(request: Obj, path: str) -> Errors:
    chosen = request.get("deviceClassName") or ""
    errors: Errors = []
    if chosen:
        errors += problems(names.dns1123_subdomain(chosen), f"{path}.deviceClassName", chosen)
    else:
        errors.append(required_field(f"{path}.deviceClassName"))
    errors += limited(children(request, "selectors"), SELECTORS_MAX, f"{path}.selectors", selector)
    mode, count = request.get("allocationMode") or "", request.get("count") or 0
    if mode == "All":
        if count:
            detail = "must not be specified when allocationMode is 'All'"
            errors.append(invalid_field(f"{path}.count", count, detail))
    elif mode == "ExactCount":
        errors += fields.positive(count, f"{path}.count", "must be greater than zero")
    else:
        errors.append(unsupported_field(f"{path}.allocationMode", mode, _MODES))
    return errors


def selector(one: Obj, path: str) -> Errors:
    """Checks a device selector: one CEL expression."""
    cel = one.get("cel")
    if cel is None:
        return [required_field(f"{path}.cel")]
    expression = cel.get("expression") or ""
    if not expression.strip():
        return [required_field(f"{path}.cel.expression")]
    from proa.apis.resource.expressions import check_selector  # only where there is one

    return check_selector(expression, f"{path}.cel.expression")


def _names_of_requests(one: Obj, path: str, known: Iterable[str]) -> Errors:
    detail = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
    errors: Errors = []
    given = one.get("requests") or []
    for index, name in enumerate(given):
        if name not in known:
            errors.append(invalid_field(f"{path}.requests[{index}]", name, detail))
        elif name in given[:index]:
            errors.append(duplicate_field(f"{path}.requests[{index}]", name))
    return errors


def _constraint(one: Obj, path: str, known: Iterable[str]) -> Errors:
    errors = _names_of_requests(one, path, known)
    keys = [key for key in ("matchAttribute", "distinctAttribute") if one.get(key) is not None]
    if not keys:
        errors.append(required_field(f"{path}.matchAttribute"))
    for key in keys:
        errors += fully_qualified_attribute(one[key], f"{path}.{key}")
    return errors


def fully_qualified_attribute(name: str, path: str) -> Errors:
    """A domain and a C identifier, such as `dra.example.com/model`."""
    if not name:
        return [required_field(path, "name required")]
    errors = qualified_attribute(name, path)
    if not errors and "/" not in name:
        errors.append(invalid_field(path, name, "must include a domain"))
    return errors


def qualified_attribute(name: str, path: str) -> Errors:
    """A C identifier, with or without a domain and slash before."""
    domain, slash, identifier = name.rpartition("/")
    errors: Errors = []
    if slash:
        errors += driver_name(domain, path)
    if not identifier:
        errors.append(required_field(path, "name required"))
    elif not _C_IDENTIFIER.fullmatch(identifier) or len(identifier) > 32:
        errors += problems(names.c_identifier(identifier), path, identifier) or [
            invalid_field(path, identifier, names.too_long(32))
        ]
    return errors


def device_config(one: Obj, path: str) -> Errors:
    """Checks driver parameters in a claim or class."""
    opaque = one.get("opaque")
    if opaque is None:
        return [required_field(f"{path}.opaque")]
    errors = driver_name(opaque.get("driver") or "", f"{path}.opaque.driver")
    parameters = opaque.get("parameters")
    if parameters is None:
        errors.append(required_field(f"{path}.opaque.parameters"))
    elif not isinstance(parameters, dict):
        errors.append(invalid_field(f"{path}.opaque.parameters", "<value omitted>", "must be a JSON object"))
    return errors
