"""Every built-in kind in protobuf: random objects, made from the schema, survive the way there and back, and google's
runtime reads and writes the same bytes. A third way is Go's, which also writes the zero values that JSON leaves out."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import pytest

from proa.meta.codec import protobuf
from proa.meta.codec.protobuf_messages import Message, message, table
from proa.meta.gvk import GVK
from proa.meta.schema import build
from proa.meta.schema.catalog import Field, catalog
from proa.meta.schema.decode import decode
from tests.unit.protobuf_oracle import message_class

SEED = 36
OBJECTS = 6
KINDS = sorted({kind for name in catalog().names for kind in catalog()[name].kinds if kind.kind != "WatchEvent"})
# Fields that the wire has no place for: types of embedded objects, which are always the same.
TYPE_FIELDS = ("kind", "apiVersion")
TEXTS = ["", "a", "é", "日本", "\U0001f600", 'x"y\\z\n', "a" * 200, "nul\0"]
QUANTITIES = ["0", "1", "100m", "1Gi", "1500m", "-5", "1e3", "128974848", "1n", "9223372036854775807"]
INTEGERS = [0, 1, -1, 127, 128, 300, 2**31 - 1, -(2**31)]
LONGS = [*INTEGERS, 2**31, -(2**31) - 1, 2**63 - 1, -(2**63), 2**40]
TIMES = ["2026-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "0001-01-01T00:00:01Z", "9999-12-31T23:59:59Z"]
RAW = [{}, {"a": [1, {"b": None}]}, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}]


@cache
def definitions() -> dict[GVK, str]:
    return {kind: name for name in catalog().names for kind in catalog()[name].kinds}


class Maker:
    """Makes random values of schema types; what lies deep stays empty. Lists and maps have members: the wire cannot
    tell empty ones from none."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice

    def object(self, name: str, depth: int) -> Any:
        definition = catalog()[name]
        if definition.alias:
            return self.value(definition.alias, depth)
        share = 0.9 if depth < 2 else 0.5 if depth < 4 else 0.2 if depth < 7 else 0.0
        return {
            field.name: self.value(field.type, depth + 1)
            for field in definition.fields.values()
            if self.dice.random() < share and not (depth and field.name in TYPE_FIELDS and self.is_typed(name))
        }

    @staticmethod
    def is_typed(name: str) -> bool:
        """Tells whether the wire leaves out kind and apiVersion of this type."""
        package, plain = build.message_name(name)
        return "kind" not in table().get(package, {}).get(plain, {})

    def value(self, code: str, depth: int) -> Any:
        kind, dice = code[0], self.dice
        if kind == "@":
            return self.object(code[1:], depth)
        if kind == "[":
            return [self.value(code[1:], depth + 1) for _ in range(dice.randrange(1, 3))]
        if kind == "{":
            return {key: self.value(code[1:], depth + 1) for key in dice.sample(TEXTS[1:], dice.randrange(1, 3))}
        choices: dict[str, list[Any]] = {
            "s": TEXTS,
            "y": ["", "AA==", "aGVsbG8="],
            "b": [True, False],
            "i": INTEGERS,
            "l": LONGS,
            "n": [0, 1, -1.5, 1e300],
            "q": QUANTITIES,
            "t": TIMES,
            "u": ["2026-01-01T00:00:00.000000Z", "1969-12-31T23:59:59.999999Z", "2026-06-01T12:00:00.123456Z"],
            "o": ["", "web", 80, -1, 0],
            "a": RAW,
        }
        return dice.choice(choices[kind])


def made(kind: GVK, dice: random.Random) -> Any:
    """Returns a random object of a kind as the server would hold it."""
    name = definitions()[kind]
    obj = {**Maker(dice).object(name, 0), "kind": kind.kind, "apiVersion": kind.api_version}
    return decode(name, obj)[0]


def read_back(kind: GVK, data: bytes) -> Any:
    decoded, problems = decode(definitions()[kind], protobuf.decode(data))
    assert problems == []
    return decoded


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.api_version}-{kind.kind}")
def test_random_objects(kind: GVK) -> None:
    dice = random.Random(f"{SEED} {kind}")
    package, name = build.message_name(definitions()[kind])
    for _ in range(OBJECTS):
        body = made(kind, dice)
        data = protobuf.encode(body)
        assert read_back(kind, data) == body
        raw = protobuf.encode_message(body)
        google = message_class(package, name)()
        google.ParseFromString(raw)
        assert not _unknown(google)
        again: dict[str, Any] = {"kind": kind.kind, "apiVersion": kind.api_version}
        message(package, name).decode(written := google.SerializeToString(), 0, len(written), again)
        assert decode(definitions()[kind], again)[0] == body
        _as_go_writes(google, definitions()[kind], message(package, name))
        zeros: dict[str, Any] = {"kind": kind.kind, "apiVersion": kind.api_version}
        message(package, name).decode(written := google.SerializeToString(), 0, len(written), zeros)
        assert decode(definitions()[kind], zeros)[0] == body


def _unknown(google: Any) -> list[Any]:
    from google.protobuf import unknown_fields

    found = list(unknown_fields.UnknownFieldSet(google))
    for field, value in google.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for one in value if field.is_repeated else [value]:
            found += _unknown(one)
    return found


def _plain(field: Field) -> bool:
    """Tells whether Go holds a field as a value rather than behind a pointer, so that it writes its zero."""
    return not field.keep_zero and field.type[0] in "sbiln"


def _as_go_writes(google: Any, name: str, found: Message) -> None:
    """Adds the zero values that Go's encoder writes for every field that is no pointer."""
    definition = catalog().get(name)
    if definition is None or definition.alias:
        return
    by_plain_name = {build.plain_name(key): field for key, field in definition.fields.items()}
    for descriptor in google.DESCRIPTOR.fields:
        field = by_plain_name.get(build.plain_name(descriptor.name))
        if field is None or descriptor.is_repeated:
            continue
        if descriptor.message_type is None:
            if _plain(field) and not google.HasField(descriptor.name):
                setattr(google, descriptor.name, descriptor.default_value)
        elif field.type[0] == "@" and (google.HasField(descriptor.name) or field.always):
            _as_go_writes(getattr(google, descriptor.name), field.type[1:], found)
            getattr(google, descriptor.name).SetInParent()


@pytest.mark.parametrize("kind", KINDS[:: max(len(KINDS) // 20, 1)], ids=lambda kind: f"{kind.api_version}-{kind.kind}")
def test_damage_is_an_error_and_nothing_else(kind: GVK) -> None:
    from proa.meta.codec.json import Malformed

    dice = random.Random(f"{SEED} damage {kind}")
    whole = protobuf.encode(made(kind, dice))
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(dice.randrange(1, 4)):
            damaged[dice.randrange(4, len(whole))] = dice.randrange(256)
        cut = bytes(damaged[: dice.randrange(4, len(whole) + 1)] if dice.random() < 0.5 else damaged)
        try:
            assert isinstance(protobuf.decode(cut), dict)
        except Malformed:
            pass
