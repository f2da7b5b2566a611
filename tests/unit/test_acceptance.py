"""Schemas compiled to a test accept what validation finds no errors in, and nothing else."""

from __future__ import annotations

import random
from typing import Any

from proa.apis.apiextensions import acceptance, values
from proa.meta.objects import Obj

SEEDS = 4_000
NAMES = ("a", "b", "c")
META = {"labels": {"x": "y"}}


class Maker:
    """Schemas and values for them, most of them nearly right; what a seed makes is always the same."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def some(self, chance: float = 0.3) -> bool:
        return self.random.random() < chance

    def schema(self, depth: int) -> Obj:
        kind = self.random.choice(("string", "integer", "number", "boolean", "array", "object", "object", ""))
        made: Obj = {"type": kind} if kind else {}
        if self.some(0.1):
            made["nullable"] = True
        if kind == "string":
            options = {"minLength": 1, "maxLength": 2, "pattern": "^a", "format": "date", "enum": ["a", "bb", ""]}
            made |= self.few(options)
        elif kind in ("integer", "number"):
            options = {"minimum": 1, "maximum": 2, "exclusiveMaximum": True, "multipleOf": 2, "format": "int32"}
            made |= self.few({**options, "enum": [1, 2, 1.5]})
        elif kind == "array":
            made |= self.few({"minItems": 1, "maxItems": 2})
            if self.some(0.8) and depth:
                made["items"] = self.schema(depth - 1)
            made |= self.random.choice(
                (
                    {},
                    {"x-kubernetes-list-type": "set"},
                    {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a"]},
                )
            )
        elif kind == "object" and depth:
            made |= self.few({"minProperties": 1, "maxProperties": 2, "required": ["a"]})
            if self.some(0.8):
                made["properties"] = {name: self.schema(depth - 1) for name in NAMES if self.some(0.7)}
            elif self.some():
                made["additionalProperties"] = self.schema(depth - 1)
            if self.some(0.2):
                made["x-kubernetes-embedded-resource"] = True
        elif self.some():
            made["x-kubernetes-int-or-string"] = True
        if depth and self.some(0.3):
            key = self.random.choice(("anyOf", "oneOf", "allOf", "not"))
            made[key] = self.schema(0) if key == "not" else [self.schema(depth - 1), self.schema(0)]
        return made

    def few(self, options: Obj) -> Obj:
        return {key: value for key, value in options.items() if self.some(0.2)}

    def value(self, schema: Obj, depth: int = 4) -> Any:
        kind = schema.get("type") if self.some(0.9) else self.random.choice(("string", "integer", "array", "null"))
        if kind == "string":
            return self.random.choice(("", "a", "a", "bb", "abc", "2024-01-02"))
        if kind == "integer":
            return self.random.choice((0, 1, 1, 2, 3, 2.0, 2**40))
        if kind == "number":
            return self.random.choice((0, 1, 1.5, 2, -0.5))
        if kind == "boolean":
            return self.some()
        if kind == "array":
            return [self.value(schema.get("items") or {}, depth - 1) for _ in range(self.random.randrange(4))]
        if kind == "object":
            below = {**(schema.get("properties") or {}), "d": schema.get("additionalProperties") or {}}
            made = {name: self.value(one, depth - 1) for name, one in below.items() if self.some(0.6)}
            if schema.get("x-kubernetes-embedded-resource") and self.some(0.8):
                made |= {"apiVersion": "v1", "kind": self.random.choice(("Thing", "-")), "metadata": META}
            return made
        return None if kind == "null" else self.random.choice((1, "a", True, None, 1.5, [1], {"a": 1}))


def test_accepted_is_what_has_no_errors() -> None:
    accepted = 0
    for seed in range(SEEDS):
        made = Maker(seed)
        schema = made.schema(3)
        for root in (True, False):
            accepts = acceptance.compiled(schema, root=root)
            for _ in range(5):
                value = made.value(schema)
                right = not values.validate(value, schema, "" if root else "status")
                assert accepts(value) is right, (seed, schema, value)
                accepted += right
    assert SEEDS * 2 < accepted < SEEDS * 8, "about half of the values are right"
