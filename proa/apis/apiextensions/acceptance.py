"""Whether a schema accepts a value, compiled to closures: the quick way for what is right, as nearly all is.

Says what `values.validate` says, which explains what is wrong: a value is accepted exactly if that finds nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from proa.apis.apiextensions import embedded, values
from proa.apis.apiextensions.formats import is_format, number_fits
from proa.apis.apiextensions.patterns import matches
from proa.meta.objects import Obj

Test = Callable[[Any], bool]
_KINDS: dict[type, str] = {str: "string", int: "integer", bool: "boolean", list: "array", dict: "object"}
_KINDS[type(None)] = "null"
_SCALARS = frozenset(("string", "integer", "number", "boolean"))
_PLAIN = frozenset(("type", "description", "title", "default", "example"))


def compiled(schema: Obj, *, root: bool = True) -> Test:
    """Returns the test of a schema; at the root of an object nobody asks whether it is a resource."""
    return _test(schema, branch=False, root=root)


def _test(schema: Obj, *, branch: bool, root: bool = False) -> Test:
    """`branch` is a schema of anyOf and its like, which knows nothing of lists' keys and of resources."""
    if not branch and schema.keys() <= _PLAIN and schema.get("type") in _SCALARS:
        return _scalar(schema["type"])
    return _by_kind(schema, branch, root)


@cache
def _scalar(name: str) -> Test:
    """The test of a type and nothing else: one for all fields that have it."""
    return _by_kind({"type": name}, branch=False, root=False)


def _by_kind(schema: Obj, branch: bool, root: bool) -> Test:
    tests: dict[type, Test] = {}
    for kind, name in _KINDS.items():
        if name == "null" and schema.get("nullable"):
            tests[kind] = _accept
        elif _has_type(name, schema):
            tests[kind] = _all(_parts(name, schema, branch, root) + _anywhere(schema))
    find = tests.get

    def test(value: Any) -> bool:
        kind = type(value)
        found = find(kind)
        if found is not None:
            return found(value)
        return kind is float and not values.check(value, schema, "")

    return test


def _accept(value: Any) -> bool:
    return True


def _all(tests: list[Test]) -> Test:
    if not tests:
        return _accept
    if len(tests) == 1:
        return tests[0]
    if len(tests) == 2:
        one, other = tests
        return lambda value: one(value) and other(value)
    return lambda value: all(test(value) for test in tests)


def _has_type(name: str, schema: Obj) -> bool:
    wanted = schema.get("type")
    if schema.get(values.INT_OR_STRING):
        return name in ("integer", "string")
    if name == "null":
        return not wanted and not schema.get("properties")
    return not wanted or name == wanted or (wanted == "number" and name == "integer")


def _parts(name: str, schema: Obj, branch: bool, root: bool) -> list[Test]:
    if name == "string":
        return _string(schema)
    if name == "integer":
        return _integer(schema)
    if name == "array":
        return _array(schema, branch)
    return _object(schema, branch, root) if name == "object" else []


def _string(schema: Obj) -> list[Test]:
    tests = _sizes(schema, "minLength", "maxLength")
    pattern, kind = schema.get("pattern"), schema.get("format")
    if pattern:
        tests.append(lambda value: matches(pattern, value))
    if kind:
        tests.append(lambda value: is_format(kind, value))
    return tests


def _sizes(schema: Obj, least: str, most: str) -> list[Test]:
    tests: list[Test] = []
    minimum, maximum = schema.get(least), schema.get(most)
    if minimum is not None:
        tests.append(lambda value: len(value) >= minimum)
    if maximum is not None:
        tests.append(lambda value: len(value) <= maximum)
    return tests


def _integer(schema: Obj) -> list[Test]:
    wanted, kind = schema.get("type") or "", schema.get("format") or ""
    least, most = schema.get("minimum"), schema.get("maximum")
    if any(schema.get(key) for key in ("multipleOf", "exclusiveMinimum", "exclusiveMaximum")):
        return [lambda value: not values.check_number(value, schema, "")]
    tests: list[Test] = []
    if kind and wanted in ("integer", "number"):
        tests.append(lambda value: number_fits(wanted, kind, value))
    if least is not None:
        tests.append(lambda value: value >= least)
    if most is not None:
        tests.append(lambda value: value <= most)
    return tests


def _array(schema: Obj, branch: bool) -> list[Test]:
    tests = _sizes(schema, "minItems", "maxItems")
    items = schema.get("items")
    if isinstance(items, dict):
        each = _test(items, branch=branch)
        tests.append(lambda value: all(map(each, value)))
    if not branch and schema.get("x-kubernetes-list-type") in ("map", "set"):
        tests.append(lambda value: not values.duplicates(value, schema, ""))
    return tests


def _object(schema: Obj, branch: bool, root: bool) -> list[Test]:
    tests = _sizes(schema, "minProperties", "maxProperties")
    required, additional = schema.get("required"), schema.get("additionalProperties")
    if required:
        tests.append(lambda value: all(key in value for key in required))
    properties = schema.get("properties") or {}
    others = _test(additional, branch=branch) if isinstance(additional, dict) else _accept
    if properties:
        tests.append(_fields(properties, others, branch))
    elif others is not _accept:
        tests.append(lambda value: all(map(others, value.values())))
    if schema.get(embedded.EMBEDDED) and not branch and not root:
        tests.append(lambda value: not embedded.validate_resource(value, ""))
    return tests


def _fields(properties: Obj, others: Test, branch: bool) -> Test:
    """Compiles the tests of fields when they first occur: large schemas have thousands that nobody sets."""
    known: dict[str, Test] = {}
    find = known.get

    def test(value: Obj) -> bool:
        for key, item in value.items():
            one = find(key)
            if one is None:
                if key in properties:
                    one = known[key] = _test(properties[key], branch=branch)
                else:
                    one = others
            if not one(item):
                return False
        return True

    return test


def _anywhere(schema: Obj) -> list[Test]:
    """What is asked of values of all types."""
    tests: list[Test] = []
    choices, refused = schema.get("enum"), schema.get("not")
    if choices is not None:
        tests.append(lambda value: value in choices)
    branches = {
        key: [_test(one, branch=True) for one in schema[key]] for key in ("anyOf", "oneOf", "allOf") if schema.get(key)
    }
    if some := branches.get("anyOf"):
        tests.append(lambda value: any(test(value) for test in some))
    if single := branches.get("oneOf"):
        tests.append(lambda value: sum(test(value) for test in single) == 1)
    if every := branches.get("allOf"):
        tests.append(lambda value: all(test(value) for test in every))
    if refused is not None:
        excluded = _test(refused, branch=True)
        tests.append(lambda value: not excluded(value))
    return tests
