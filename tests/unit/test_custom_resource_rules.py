"""Rules of custom resources: when they are asked, what they say, what they may cost, what may stay as it was."""

from __future__ import annotations

from typing import Any

import pytest

from proa.apis.apiextensions import rules, values
from proa.apis.apiextensions.field_path import BadPath, check
from proa.apis.apiextensions.rules import Rules
from proa.apis.apiextensions.structural import check_schema
from proa.meta.errors import FieldError
from proa.meta.objects import Obj

TEXT: Obj = {"type": "string"}
INTEGER: Obj = {"type": "integer"}


def thing(properties: Obj, *given: Any, **more: Any) -> Obj:
    """Returns the schema of an object with these fields and rules (a text, or what a rule has)."""
    schema: Obj = {"type": "object", "properties": properties, **more}
    return ruled(schema, *given)


def ruled(schema: Obj, *given: Any) -> Obj:
    made = [{"rule": one} if isinstance(one, str) else one for one in given]
    return {**schema, **({"x-kubernetes-validations": made} if made else {})}


def array(items: Obj, **more: Any) -> Obj:
    return {"type": "array", "items": items, **more}


def by_key(items: Obj, *keys: str) -> Obj:
    return array(items, **{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)})


def said(schema: Obj, obj: Any, old: Any = None, *, resource: bool = False) -> list[str]:
    found, _ = Rules(schema, resource=resource).validate(obj, old, [])
    return [str(error) for error in found]


def test_a_broken_rule_tells_where_and_what() -> None:
    schema = thing({"a": INTEGER, "b": INTEGER}, "self.a < self.b")
    assert said(schema, {"a": 1, "b": 2}) == []
    assert said(schema, {"a": 2, "b": 2}) == ["<nil>: Invalid value: failed rule: self.a < self.b"]
    below = thing({"spec": thing({"n": ruled(INTEGER, {"rule": "self > 0", "message": " positive "})})})
    assert said(below, {"spec": {"n": 0}}) == ["spec.n: Invalid value: 0: positive"]


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("FieldValueForbidden", "spec.b: Forbidden: m"),
        ("FieldValueRequired", "spec.b: Required value: m"),
        ("FieldValueDuplicate", "spec.b: Duplicate value"),
        ("FieldValueInvalid", "spec.b: Invalid value: m"),
    ],
)
def test_a_rule_chooses_reason_and_field(reason: str, shown: str) -> None:
    rule = {"rule": "false", "message": "m", "reason": reason, "fieldPath": ".b"}
    assert said(thing({"spec": thing({"b": TEXT}, rule)}), {"spec": {"b": "x"}}) == [shown]


def test_a_message_is_made_by_an_expression() -> None:
    rule = {"rule": "self.n < 3", "messageExpression": "'%d is too much'.format([self.n])", "message": "plain"}
    assert said(thing({"n": INTEGER}, rule), {"n": 5}) == ["<nil>: Invalid value: 5 is too much"]
    for broken in ("self.text", "'a\\nb'", "'  '", "string(1 / self.zero)"):
        schema = thing({"n": INTEGER, "zero": INTEGER, "text": TEXT}, {**rule, "messageExpression": broken})
        assert said(schema, {"n": 5, "zero": 0}) == ["<nil>: Invalid value: plain"], broken


def test_errors_of_evaluation_name_the_type_and_the_rule() -> None:
    schema = thing({"m": {"type": "object", "additionalProperties": INTEGER}}, "self.m['a'] > 0")
    assert said(schema, {"m": {}}) == [
        "<nil>: Invalid value: \"object\": no such key: a evaluating rule: self.m['a'] > 0"
    ]
    port = ruled({"x-kubernetes-int-or-string": True}, "self < 5")
    found = said(thing({"port": port}), {"port": "x"})
    assert found[0].startswith("port: Invalid value: \"\": 'no such overload': call arguments did not match")


def test_transition_rules_need_something_old() -> None:
    schema = thing({"a": ruled(TEXT, "self == oldSelf")})
    assert said(schema, {"a": "x"}) == []
    assert said(schema, {"a": "x"}, {}) == []
    assert said(schema, {"a": "x"}, {"a": None}) == []
    assert said(schema, {"a": "x"}, {"a": "y"}) == ['a: Invalid value: "x": failed rule: self == oldSelf']


def test_an_optional_old_value_is_there_or_not() -> None:
    rule = {"rule": "oldSelf.hasValue() ? self >= oldSelf.value() : self == 0", "optionalOldSelf": True}
    schema = thing({"n": ruled(INTEGER, rule)})
    assert said(schema, {"n": 0}) == []
    assert len(said(schema, {"n": 1})) == 1
    assert said(schema, {"n": 2}, {"n": 1}) == []
    assert len(said(schema, {"n": 0}, {"n": 1})) == 1


def test_items_have_counterparts_by_their_keys() -> None:
    item = thing({"k": TEXT, "v": INTEGER}, "self.v >= oldSelf.v", required=["k"])
    old = {"l": [{"k": "a", "v": 5}, {"k": "b", "v": 5}]}
    schema = thing({"l": by_key(item, "k")})
    assert said(schema, {"l": [{"k": "b", "v": 6}, {"k": "a", "v": 4}, {"k": "c", "v": 0}]}, old) == [
        "l[1]: Invalid value: failed rule: self.v >= oldSelf.v"
    ]
    values_of_map = thing({"m": {"type": "object", "additionalProperties": ruled(INTEGER, "self >= oldSelf")}})
    assert said(values_of_map, {"m": {"a": 1, "b": 0}}, {"m": {"a": 2}}) == [
        "m[a]: Invalid value: 1: failed rule: self >= oldSelf"
    ]


def test_nulls_are_as_good_as_absent_in_objects() -> None:
    nullable = thing({"a": {**TEXT, "nullable": True}}, "!has(self.a) || self.a.size() > 0")
    assert said(nullable, {"a": None}) == []
    in_map = thing({"m": {"type": "object", "additionalProperties": {**TEXT, "nullable": True}}}, "has(self.m.x)")
    assert said(in_map, {"m": {"x": None}}) == []
    inner = thing({"a": ruled({**TEXT, "nullable": True}, "false")})
    assert said(inner, {"a": None}) == []


def test_values_have_the_types_of_their_formats() -> None:
    properties = {
        **{"at": {**TEXT, "format": "date-time"}, "day": {**TEXT, "format": "date"}},
        **{"span": {**TEXT, "format": "duration"}, "raw": {**TEXT, "format": "byte"}, "ratio": {"type": "number"}},
        "days": array({**TEXT, "format": "date"}),
    }
    rule = (
        "self.at > timestamp('2020-01-01T00:00:00Z') && self.day.getDate() == 2 && self.span == duration('90m') && "
        "self.raw == b'AB' && self.ratio == 2.0 && self.days.all(d, d.getFullYear() == 2024)"
    )
    obj = {"at": "2020-01-01T00:00:01+00:00", "day": "2024-01-02", "span": "1h30m", "raw": "QUI=", "ratio": 2}
    assert said(thing(properties, rule), {**obj, "days": ["2024-01-01"]}) == []


def test_sets_and_keyed_lists_are_equal_in_any_order() -> None:
    a_set = thing({"s": array(TEXT, **{"x-kubernetes-list-type": "set"})}, "self.s == oldSelf.s")
    assert said(a_set, {"s": ["a", "b"]}, {"s": ["b", "a"]}) == []
    keyed = thing({"l": by_key(thing({"k": TEXT, "v": TEXT}), "k")}, "self.l == oldSelf.l")
    one, other = {"k": "a", "v": "1"}, {"k": "b", "v": "2"}
    assert said(keyed, {"l": [one, other]}, {"l": [other, one]}) == []
    assert len(said(keyed, {"l": [one]}, {"l": [other]})) == 1
    merged = thing({"l": by_key(thing({"k": TEXT, "v": TEXT}), "k")}, "(oldSelf.l + self.l) == self.l")
    assert said(merged, {"l": [{"k": "a", "v": "2"}]}, {"l": [one]}) == []


def test_names_that_are_no_identifiers_are_escaped() -> None:
    properties = dict.fromkeys(("a-b", "a.b", "a/b", "a__b", "namespace", "if"), TEXT)
    rule = (
        "[self.a__dash__b, self.a__dot__b, self.a__slash__b, self.a__underscores__b, self.__namespace__, "
        "self.namespace, self.__if__].all(x, x == 'x')"
    )
    assert said(thing(properties, rule), dict.fromkeys(properties, "x")) == []


def test_resources_have_a_name_at_the_root_and_embedded() -> None:
    embedded = ruled({"type": "object", "x-kubernetes-embedded-resource": True}, "self.kind == 'Pod'")
    schema = thing({"pod": {**embedded, "x-kubernetes-preserve-unknown-fields": True}}, "self.metadata.name == 'x'")
    obj = {"kind": "A", "apiVersion": "v1", "metadata": {"name": "x"}, "pod": {"kind": "Pod", "metadata": {}}}
    assert said(schema, obj, resource=True) == []


# ---------------------------------------------------------------- ratcheting


def test_what_did_not_change_gets_a_warning() -> None:
    schema = thing({"spec": thing({"n": ruled(INTEGER, "self > 0"), "other": TEXT})})
    old = {"spec": {"n": 0, "other": "a"}}
    found, warnings = Rules(schema).validate({"spec": {"n": 0, "other": "b"}}, old, [])
    assert (found, warnings) == ([], ["spec.n: Invalid value: 0: failed rule: self > 0"])
    found, warnings = Rules(schema).validate({"spec": {"n": -1, "other": "b"}}, old, [])
    assert len(found) == 1 and not warnings


def test_items_without_keys_ratchet_with_their_list_only() -> None:
    schema = thing({"l": array(ruled(INTEGER, "self > 0")), "other": TEXT})
    assert said(schema, {"l": [0], "other": "b"}, {"l": [0], "other": "a"}) == []
    assert len(said(schema, {"l": [0, 1]}, {"l": [0]})) == 1
    keyed = thing({"l": by_key(thing({"k": TEXT, "n": INTEGER}, "self.n > 0"), "k")})
    bad, good = {"k": "a", "n": 0}, {"k": "b", "n": 1}
    assert said(keyed, {"l": [good, bad]}, {"l": [bad]}) == []


def test_transition_rules_do_not_ratchet() -> None:
    schema = thing({"n": ruled(INTEGER, "self != oldSelf")})
    assert len(said(schema, {"n": 1}, {"n": 1})) == 1


SPEC = thing(
    {
        "spec": thing(
            {
                "name": {**TEXT, "maxLength": 3},
                "level": {**TEXT, "enum": ["a"]},
                "list": array({**TEXT, "maxLength": 3}),
                "keyed": by_key(thing({"k": TEXT, "n": {**INTEGER, "minimum": 1}}), "k"),
                "map": {"type": "object", "additionalProperties": {**INTEGER, "minimum": 1}},
                "other": TEXT,
            },
            required=["other"],
        )
    }
)
WRONG = {"name": "long name", "level": "b", "list": ["long item"], "map": {"a": 0}, "keyed": [{"k": "x", "n": 0}]}


def paths(found: list[FieldError]) -> list[str]:
    return [error.path for error in found]


def test_schemas_let_unchanged_values_pass() -> None:
    old = {"spec": WRONG}
    assert len(values.validate(old, SPEC)) == 6
    changed = {"spec": {**WRONG, "other": "new", "map": {"a": 0, "b": 1}}}
    assert values.validate(changed, SPEC, old=old) == []
    assert values.validate({"spec": {**WRONG}}, SPEC, old=old) == []
    worse = {"spec": {**WRONG, "other": "new", "level": "c", "map": {"a": -1}}}
    assert paths(values.validate(worse, SPEC, old=old)) == ["spec.level", "spec.map.a"]


def test_items_without_keys_are_held_to_the_schema_when_their_list_changes() -> None:
    old = {"spec": {**WRONG, "other": "x"}}
    changed = {"spec": {**WRONG, "other": "x", "list": ["long item", "b"]}}
    assert paths(values.validate(changed, SPEC, old=old)) == ["spec.list[0]"]
    keyed = [{"k": "y", "n": 1}, {"k": "x", "n": 0}]
    assert values.validate({"spec": {**WRONG, "other": "x", "keyed": keyed}}, SPEC, old=old) == []


def test_branches_do_not_ratchet_below_themselves() -> None:
    branch = {"anyOf": [{"properties": {"a": {"minLength": 3}}}, {"properties": {"b": {"minLength": 3}}}]}
    schema = thing({"x": {**thing({"a": TEXT, "b": TEXT, "c": TEXT}), **branch}})
    old = {"x": {"a": "", "b": ""}}
    assert values.validate(old, schema, old=old) == []
    assert paths(values.validate({"x": {"a": "", "b": "", "c": "new"}}, schema, old=old))[0] == "<nil>"


def test_doubles_in_a_set_may_stay_if_they_were_there() -> None:
    schema = thing({"s": array(TEXT, **{"x-kubernetes-list-type": "set"}), "n": INTEGER})
    assert values.validate({"s": ["a", "a"], "n": 2}, schema, old={"s": ["a", "a"], "n": 1}) == []
    assert len(values.validate({"s": ["a", "a"]}, schema, old={"s": ["a"]})) == 1


# ---------------------------------------------------------------- budgets


def test_one_call_has_a_limit() -> None:
    schema = thing({"l": array(INTEGER)}, "self.l.all(x, self.l.all(y, x + y >= 0))", "false")
    found = said(schema, {"l": [1] * 500})
    assert len(found) == 1 and "actual cost limit exceeded" in found[0] and "no further validation rules" in found[0]


def test_all_rules_of_an_object_share_a_budget() -> None:
    rule = "self.all(x, self.all(y, x + y >= 0))"
    schema = thing({"l": array(ruled(array(INTEGER), rule))})
    assert said(schema, {"l": [[1] * 300] * 2}) == []
    found = said(schema, {"l": [[1] * 300] * 30})
    assert found == [f'l[{found[0][2:].split("]")[0]}]: Invalid value: "array": {rules._OUT_OF_BUDGET}']


# ---------------------------------------------------------------- definitions


def wrong(schema: Obj) -> list[str]:
    return [str(error).replace("spec.schema", "$") for error in check_schema(schema, "spec.schema")]


RULE = "x-kubernetes-validations[0]"


@pytest.mark.parametrize(
    ("rule", "shown"),
    [
        ({"rule": " "}, f"$.properties[s].{RULE}.rule: Required value: rule is not specified"),
        (
            {"rule": "true", "message": " "},
            f'$.properties[s].{RULE}.message: Invalid value: " ": message must be non-empty if specified',
        ),
        (
            {"rule": "true ||\ntrue"},
            f"$.properties[s].{RULE}.message: Required value: message must be specified if rule contains line breaks",
        ),
        (
            {"rule": "true", "messageExpression": " "},
            f"$.properties[s].{RULE}.messageExpression: Required value: messageExpression must be "
            "non-empty if specified",
        ),
        (
            {"rule": "true", "reason": "Odd"},
            f'$.properties[s].{RULE}.reason: Unsupported value: "Odd": supported values: "FieldValueDuplicate", '
            '"FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"',
        ),
        (
            {"rule": "true", "fieldPath": ".nope"},
            f'$.properties[s].{RULE}.fieldPath: Invalid value: ".nope": fieldPath must be a valid path: does not '
            "refer to "
            "a valid field",
        ),
        (
            {"rule": "true", "optionalOldSelf": True},
            f"$.properties[s].{RULE}.optionalOldSelf: Invalid value: true: may not be set if oldSelf is "
            "not used in rule",
        ),
    ],
)
def test_rules_are_checked(rule: Obj, shown: str) -> None:
    assert wrong(thing({"s": thing({"a": TEXT}, rule)})) == [shown]


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ({"rule": "self.a"}, "cel expression must evaluate to a bool"),
        ({"rule": "self.nope"}, "compilation failed: ERROR: <input>:1:5: undefined field 'nope'"),
        ({"rule": "true", "messageExpression": "1"}, "messageExpression must evaluate to a string"),
        ({"rule": "true", "messageExpression": "nope"}, "messageExpression compilation failed: ERROR: <input>:1:1"),
        ({"rule": "int('x') == 1"}, "program instantiation failed: type conversion error from 'string' to 'int'"),
    ],
)
def test_expressions_are_compiled(rule: Obj, text: str) -> None:
    found = wrong(thing({"a": TEXT}, rule))
    assert len(found) == 1 and text in found[0]


def test_old_values_need_a_counterpart() -> None:
    rule = "self == oldSelf"
    within = "oldSelf cannot be used on the uncorrelatable portion of the schema within"
    short = {**TEXT, "maxLength": 5}
    found = wrong(thing({"l": array(ruled(short, rule), maxItems=5)}))
    assert len(found) == 1 and f"{within} spec.schema.properties[l]".replace("spec.schema", "$") in found[0]
    keyed = thing({"k": {**short, "default": ""}}, "self.k == oldSelf.k")
    assert wrong(thing({"l": {**by_key(keyed, "k"), "maxItems": 5}})) == []
    atomic = thing({"m": {**thing({"a": ruled(short, rule)}), "x-kubernetes-map-type": "atomic"}})
    assert len(wrong(atomic)) == 1


def test_a_rule_without_a_type_is_an_internal_error() -> None:
    free = ruled({"x-kubernetes-preserve-unknown-fields": True}, "true")
    assert wrong(thing({"a": free})) == [
        "$.properties[a].x-kubernetes-validations: Internal error: internal error: failed to retrieve type information "
        "for x-kubernetes-validations"
    ]


def factor(schema: Obj) -> str:
    found = [one for one in wrong(schema) if "estimated rule cost exceeds" in one]
    return found[0].partition("factor of ")[2].partition(" (")[0] if found else ""


@pytest.mark.parametrize(("length", "most"), [(16, 909_090), (63, 333_333), (253, 94_339), (1024, 24_154)])
def test_the_largest_list_that_a_rule_may_go_through(length: int, most: int) -> None:
    """As measured with upstream's own validation of definitions, v1.36."""

    def schema(items: int) -> Obj:
        texts = array({**TEXT, "maxLength": length}, maxItems=items)
        return thing({"tags": ruled(texts, "self.all(x, x.contains('gpu'))")})

    assert wrong(schema(most)) == []
    assert factor(schema(most + 2)) == "1.000002x" or factor(schema(most + 2)).startswith("1.0000")


def test_costs_multiply_by_what_the_schema_lets_occur() -> None:
    item = thing({"s": ruled({**TEXT, "maxLength": 100}, "self.startsWith('x')")})
    assert wrong(thing({"l": array(item, maxItems=1000)})) == []
    unlimited = thing({"l": array(item)})
    assert wrong(unlimited) == []
    assert factor(thing({"l": array(thing({"s": ruled(TEXT, "self.matches('a*b*c*d*')")}))})) == "more than 100x"


def test_many_rules_cost_too_much_together() -> None:
    one = ruled(array({**TEXT, "maxLength": 16}, maxItems=900_000), "self.all(x, x.contains('gpu'))")
    assert wrong(thing({f"f{index}": one for index in range(10)})) == []
    found = wrong(thing({f"f{index}": one for index in range(12)}))
    blamed = [text for text in found if "contributed to estimated rule cost total" in text]
    assert len(blamed) == 4 and len(found) == 5
    assert found[-1].startswith(
        "$: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema "
        "exceeds budget by "
        "factor of 1.188000x"
    )


def test_a_message_may_cost_too_much() -> None:
    rule = {"rule": "true", "messageExpression": "'n is ' + string(self.n)"}
    found = wrong(thing({"n": INTEGER}, rule))
    assert found[0].startswith(
        f"$.{RULE}.messageExpression: Forbidden: estimated messageExpression cost exceeds budget"
    )
    assert wrong(thing({"n": INTEGER}, {"rule": "true", "messageExpression": "'n is %d'.format([self.n])"})) == []


def test_defaults_keep_the_rules() -> None:
    spec = {**thing({"min": INTEGER, "max": INTEGER}, "self.min <= self.max"), "default": {"min": 2, "max": 1}}
    found = wrong(thing({"spec": spec}))
    assert found == ["$.properties[spec].default: Invalid value: failed rule: self.min <= self.max"]


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        *(
            (".a", "a"),
            ("['a']", "a"),
            (".foo['b.c']['c\\\\a']", "foo.b.c.c\\a"),
            (".m['x']", "m[x]"),
            (".m.x", "m[x]"),
        ),
    ],
)
def test_field_paths(path: str, shown: str) -> None:
    schema = thing(
        {
            "a": TEXT,
            "foo": thing({"b.c": thing({"c\\a": TEXT})}),
            "m": {"type": "object", "additionalProperties": TEXT},
            "list": array(thing({"a": TEXT})),
        }
    )
    assert check(path, schema) == shown


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (".a.c", "does not refer to a valid field"),
        (".list[0]", "expected single quoted string but got 0"),
        (".", "unexpected end of JSON path"),
        ("..", "does not refer to a valid field"),
        ("   ", "expected [ or . but got:    "),
        ("a", "expected [ or . but got: a"),
        (".list['a']", "does not refer to a valid field"),
    ],
)
def test_bad_field_paths(path: str, text: str) -> None:
    with pytest.raises(BadPath) as raised:
        check(path, thing({"a": TEXT, "list": array(thing({"a": TEXT}))}))
    assert str(raised.value) == text
