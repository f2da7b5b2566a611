"""Makes incoming JSON data into an object as Go's types would hold and write it; says what is unknown or mistyped.

`decode_into(definition, obj, mode)` is the entry point for whole objects from clients. Two passes do the work:
functions compiled per definition handle ordinary objects at full speed and give up at the first oddity; then the
careful pass finds paths and messages. What Go's decoder does and a client can see happens here: unknown fields go
(with a warning, or a 400), nulls go, empty lists and zero values go unless Go always writes them, and fields that it
does appear (`status: {}`, `rules: null`); quantities and times take canonical form, fields come in upstream's order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from proa.meta.errors import StatusError, bad_request
from proa.meta.objects import Obj
from proa.meta.quantity import format_number
from proa.meta.schema import values
from proa.meta.schema.catalog import SCALARS, Catalog, Definition, Field, catalog

STRICT, WARN, IGNORE = "Strict", "Warn", "Ignore"
PROBLEMS_MAX = 100

Convert = Callable[[Any], Any]


class Mistyped(ValueError):
    """A value that Go's decoder refuses; the message is Go's."""


class _Odd(Exception):
    """The fast pass found something that needs the careful one."""


_GO_SCALARS = {"s": "string", "y": "[]uint8", "b": "bool", "i": "int32", "l": "int64", "n": "float64", "o": "int32"}
_SPECIAL: dict[str, Convert] = {"q": values.quantity, "t": values.time, "u": values.micro_time}
_EXACT = {"s": str, "b": bool}
_RANGES = {"i": 2**31, "l": 2**63}
_ZEROS = {"s": "", "b": False, "i": 0, "l": 0, "n": 0, "o": 0, "q": "0"}


def _drops_zero(field: Field) -> bool:
    """Tells whether the field goes when empty (an empty list that is always written comes back as null)."""
    if field.type[0] in "[{":
        return not field.keep_zero
    return not (field.keep_zero or field.always or field.type == "a")


class Decoder:
    """Decodes by the definitions of one catalog; compiled functions are kept."""

    def __init__(self, definitions: Catalog) -> None:
        self._catalog = definitions
        self._compiled: dict[str, Convert] = {}

    def decode(self, name: str, obj: Any) -> tuple[Any, list[str]]:
        """Returns the object in Go's form and its problems (`unknown field "spec.x"`); raises Mistyped."""
        try:
            return self._fast(name)(obj), []
        except (_Odd, ValueError, TypeError):
            problems: list[str] = []
            return _Careful(self._catalog, problems).start(name, obj), problems
        except RecursionError:
            raise Mistyped("exceeded max depth") from None

    # ------------------------------------------------------------ the fast pass

    def _fast(self, name: str) -> Convert:
        """Returns the compiled function of a definition."""
        found = self._compiled.get(name)
        if found is None:
            definition = self._catalog[name]
            found = self._convert(definition.alias) if definition.alias else self._struct(definition)
            self._compiled[name] = found
        return found

    def _convert(self, code: str) -> Convert:
        kind = code[0]
        if kind == "@":
            return self._reference(code[1:])
        if kind == "[":
            return _list_of(code[1:], self._convert(code[1:]))
        if kind == "{":
            return _map_of(code[1:], self._convert(code[1:]))
        return _FAST[kind]

    def _reference(self, name: str) -> Convert:
        """Returns a function that compiles its definition when first called, for definitions may be recursive."""
        compiled = self._compiled

        def convert(value: Any) -> Any:
            function = compiled.get(name)
            return function(value) if function is not None else self._fast(name)(value)

        return convert

    def _struct(self, definition: Definition) -> Convert:
        fields: dict[str, tuple[int, type | None, Convert, bool]] = {}
        always: list[tuple[str, Callable[[], Any]]] = []
        ranks = {key: rank for rank, key in enumerate(definition.fields)}
        for rank, field in enumerate(definition.fields.values()):
            fields[field.name] = (rank, _EXACT.get(field.type), self._convert(field.type), _drops_zero(field))
            if field.always or field.null:
                always.append((field.name, self._zero_maker("" if field.null else field.type)))
        lookup, rank_of = fields.get, ranks.__getitem__

        def convert(value: Any) -> Obj:
            if type(value) is not dict:
                raise _Odd
            out: Obj = {}
            last, ordered = -1, True
            for key, item in value.items():
                spec = lookup(key)
                if spec is None:
                    raise _Odd
                if item is None:
                    continue
                rank, exact, function, drops_zero = spec
                if exact is None:
                    item = function(item)
                elif type(item) is not exact:
                    raise _Odd
                if drops_zero and not item:
                    continue
                out[key] = item
                if rank < last:
                    ordered = False
                last = rank
            for key, make in always:
                if key not in out:
                    out[key] = make()
                    ordered = False
            return out if ordered else {key: out[key] for key in sorted(out, key=rank_of)}

        return convert

    def _zero_maker(self, code: str) -> Callable[[], Any]:
        if code[:1] == "@":
            reference = self._reference(code[1:])
            return lambda: reference({})
        zero = _ZEROS.get(code)
        return lambda: zero


def _ranged(bound: int) -> Convert:
    def convert(value: Any) -> Any:
        if type(value) is not int or not -bound <= value < bound:
            raise _Odd
        return value

    return convert


def _exactly(kind: type) -> Convert:
    def convert(value: Any) -> Any:
        if type(value) is not kind:
            raise _Odd
        return value

    return convert


def _number(value: Any) -> Any:
    if type(value) is not int and type(value) is not float:
        raise _Odd
    return value


def _base64(value: Any) -> str:
    if type(value) is not str:
        raise _Odd
    return values.base64_text(value)


_FAST: dict[str, Convert] = {
    "s": _exactly(str),
    "b": _exactly(bool),
    "i": _ranged(2**31),
    "l": _ranged(2**63),
    "n": _number,
    "y": _base64,
    "o": values.int_or_string,
    "a": lambda value: value,
    **_SPECIAL,
}


def _list_of(code: str, function: Convert) -> Convert:
    exact = _EXACT.get(code)

    def convert(value: Any) -> list[Any]:
        if type(value) is not list:
            raise _Odd
        if exact is not None:
            for item in value:
                if type(item) is not exact:
                    raise _Odd
            return list(value)
        return [function(item) for item in value]

    return convert


def _map_of(code: str, function: Convert) -> Convert:
    exact = _EXACT.get(code)

    def convert(value: Any) -> Obj:
        if type(value) is not dict:
            raise _Odd
        if exact is not None:
            for item in value.values():
                if type(item) is not exact:
                    raise _Odd
            return dict(value)
        return {key: function(item) for key, item in value.items()}

    return convert


# ---------------------------------------------------------------- the careful pass


class _Careful:
    """Decodes with paths: collects unknown fields and the first mistyped value, which Go reports after all else."""

    def __init__(self, definitions: Catalog, problems: list[str]) -> None:
        self._catalog = definitions
        self._problems = problems
        self._first = ""

    def start(self, name: str, obj: Any) -> Any:
        try:
            decoded = self._named(name, obj, "", "", self._catalog[name].go_type)
        except RecursionError:
            raise Mistyped("exceeded max depth") from None
        if self._first:
            raise Mistyped(self._first)
        return decoded

    def _mistyped(self, value: Any, go_path: str, go_type: str) -> None:
        """Notes a type error; `go_path` is `Struct.path`, empty at the root."""
        where = f"Go struct field {go_path}" if go_path else "Go value"
        self._first = (
            self._first or f"json: cannot unmarshal {_json_kind(value, go_type)} into {where} of type {go_type}"
        )

    def _named(self, name: str, value: Any, path: str, go_path: str, go_type: str, owner: str = "") -> Any:
        definition = self._catalog[name]
        if definition.alias:
            return self._value(definition.alias, value, path, go_path, owner)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            self._mistyped(value, f"{owner}.{go_path}" if owner else "", go_type)
            return {}
        struct = name.rpartition(".")[2]
        out: Obj = {}
        for key, item in value.items():
            at = f"{path}.{key}" if path else key
            field = definition.fields.get(key)
            if field is None:
                if len(self._problems) < PROBLEMS_MAX:
                    self._problems.append(f'unknown field "{at}"')
                continue
            if item is None:
                continue
            steps = [step for step in (go_path, field.inlined, key) if step]
            decoded = self._value(field.type, item, at, ".".join(steps), struct)
            if not decoded and _drops_zero(field):
                continue
            out[key] = decoded
        for field in definition.fields.values():
            if (field.always or field.null) and field.name not in out:
                out[field.name] = None if field.null else self._zero(field.type)
        return {key: out[key] for key in definition.fields if key in out}

    def _zero(self, code: str) -> Any:
        return self._named(code[1:], {}, "", "", "") if code[0] == "@" else _ZEROS.get(code)

    def _value(self, code: str, value: Any, path: str, go_path: str, struct: str) -> Any:
        kind = code[0]
        if kind == "@":
            return self._named(code[1:], value, path, go_path, self._go_type(code), struct)
        if kind in "[{":
            return self._collection(code, value, path, go_path, struct)
        if value is None:
            return _ZEROS.get(kind)
        if kind in _SPECIAL:
            try:
                return _SPECIAL[kind](value)
            except ValueError as problem:
                raise Mistyped(str(problem)) from None
        if kind == "y" and isinstance(value, str):
            try:
                return values.base64_text(value)
            except ValueError as problem:
                raise Mistyped(str(problem)) from None
        fits: Any = _FITS[kind](value)
        if fits is None:
            self._mistyped(value, f"{struct}.{go_path}", _GO_SCALARS[kind])
            return _ZEROS.get(kind)
        return fits

    def _collection(self, code: str, value: Any, path: str, go_path: str, struct: str) -> Any:
        inner = code[1:]
        if value is None:
            return None
        if code[0] == "[" and isinstance(value, list):
            return [self._value(inner, item, f"{path}[{at}]", go_path, struct) for at, item in enumerate(value)]
        if code[0] == "[" or not isinstance(value, dict):
            self._mistyped(value, f"{struct}.{go_path}", self._go_type(code))
            return None
        decoded = {key: self._value(inner, item, f"{path}.{key}", go_path, struct) for key, item in value.items()}
        return {key: "" if item is None and inner in "sy" else item for key, item in decoded.items()}

    def _go_type(self, code: str) -> str:
        if code[0] == "[":
            return "[]" + self._go_type(code[1:])
        if code[0] == "{":
            return "map[string]" + self._go_type(code[1:])
        if code[0] == "@":
            return self._catalog[code[1:]].go_type
        return _GO_SCALARS.get(code, {"q": "resource.Quantity", "t": "v1.Time", "u": "v1.MicroTime"}.get(code, "any"))


def _fitting_integer(bound: int) -> Convert:
    def fit(value: Any) -> Any:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return value if type(value) is int and -bound <= value < bound else None

    return fit


def _fitting(*kinds: type) -> Convert:
    return lambda value: value if type(value) in kinds else None


_FITS: dict[str, Convert] = {
    "s": _fitting(str),
    "y": _fitting(str),
    "b": _fitting(bool),
    "n": _fitting(int, float),
    "i": _fitting_integer(2**31),
    "l": _fitting_integer(2**63),
    "o": lambda value: value if type(value) is str else _fitting_integer(2**31)(value),
    "a": lambda value: value,
}
assert set(_FITS) | set(_SPECIAL) == SCALARS


def _json_kind(value: Any, go_type: str) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return f"number {format_number(value)}" if go_type.startswith(("int", "float")) else "number"
    names: dict[type, str] = {str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


# ---------------------------------------------------------------- what the server calls

_decoder: Decoder | None = None


def decoder() -> Decoder:
    """Returns the decoder of the built-in definitions."""
    global _decoder
    if _decoder is None:
        _decoder = Decoder(catalog())
    return _decoder


def decode(definition: str, obj: Any) -> tuple[Any, list[str]]:
    """Returns the object in Go's form and its unknown fields; raises Mistyped. For patches, whose errors differ."""
    return decoder().decode(definition, obj)


def decode_around(definition: str, obj: Any, done: Obj) -> tuple[Any, list[str]]:
    """As `decode`, but the members in `done` are in Go's form and taken as they are."""
    if not done:
        return decode(definition, obj)
    decoded, unknown = decode(definition, {key: item for key, item in obj.items() if key not in done})
    decoded.update(done)
    return {key: decoded[key] for key in catalog()[definition].fields if key in decoded}, unknown


def decode_into(definition: str, obj: Any, mode: str = WARN, duplicates: Sequence[str] = ()) -> tuple[Obj, list[str]]:
    """Returns a new object in Go's form and the texts of warnings; the argument may share parts with the result.

    `definition` is such as io.k8s.api.core.v1.Pod. `mode` is Strict, Warn or Ignore. `duplicates` are the paths of
    duplicate keys that `codec.json.parse_strictly` found (or, from YAML, its sentences). Raises the 400 StatusError.
    """
    try:
        decoded, problems = decode(definition, obj)
    except Mistyped as problem:
        raise unhandled(definition, obj, str(problem)) from None
    if mode == IGNORE:
        return decoded, []
    problems = duplicate_problems(duplicates) + problems
    if problems and mode == STRICT:
        raise unhandled(definition, obj, strict_message(problems))
    return decoded, problems


def duplicate_problems(duplicates: Sequence[str]) -> list[str]:
    """Returns what to say of duplicate keys: YAML's are sentences already."""
    return [one if one.startswith("line ") else f'duplicate field "{one}"' for one in duplicates]


def strict_message(problems: Sequence[str]) -> str:
    """Returns how upstream joins the problems of strict decoding."""
    yaml = [one for one in problems if one.startswith("line ")]
    rest = [one for one in problems if not one.startswith("line ")]
    first = ["yaml: unmarshal errors:\n  " + "\n  ".join(yaml)] if yaml else []
    return "strict decoding error: " + ", ".join(first + rest)


def unhandled(definition: str, obj: Any, problem: str) -> StatusError:
    """Returns the 400 for a body that is no such object."""
    *_, version, expected = definition.split(".")
    kind = expected
    if isinstance(obj, dict):
        kind = obj.get("kind") or expected
        version = str(obj.get("apiVersion") or version).rpartition("/")[2]
    return bad_request(f'{kind} in version "{version}" cannot be handled as a {expected}: {problem}')
