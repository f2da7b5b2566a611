"""YAML to objects and back, with the meaning that upstream's `sigs.k8s.io/yaml` gives it: YAML 1.1, then JSON.

So `y`, `on` and `no` are booleans, `1:30` and dates are texts, `010` is eight, and keys become texts. Of several
documents the first counts. Depth and aliases are bounded, so that a small text cannot become a huge object.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from typing import Any

import yaml

from proa.meta.codec import json as json_codec
from proa.meta.codec.json import DEPTH_MAX, DUPLICATES_MAX, VALUES_MAX, Malformed, check_bounds
from proa.meta.errors import bad_request

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_BaseDumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

ALIASED_NODES_MAX = VALUES_MAX
_DIGITS_MAX = 400  # more than a float holds

_BOOLEANS = {
    text: value
    for value, words in ((True, "y yes on true"), (False, "n no off false"))
    for word in words.split()
    for text in (word, word.capitalize(), word.upper())
}
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_INTEGER = re.compile(r"[-+]?(0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO]?[0-7_]+|[0-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_TAG = "tag:yaml.org,2002:"


def decode(body: bytes) -> Any:
    """Decodes the first document; raises the 400 StatusError."""
    try:
        return parse_strictly(body)[0]
    except Malformed as problem:
        raise bad_request(str(problem)) from None


def parse_strictly(body: bytes) -> tuple[Any, list[str]]:
    """Decodes the first document and returns it with upstream's sentences about duplicate keys; raises Malformed."""
    if body.lstrip()[:1] == b"{":
        try:
            value, duplicates = json_codec.parse_strictly(body)
        except Malformed:
            pass
        else:
            if not duplicates:
                return value, []
    try:
        return _Builder().build(body)
    except yaml.YAMLError as problem:
        raise Malformed(f"yaml: {_first_line(problem)}") from None
    except UnicodeDecodeError:
        raise Malformed("yaml: control characters are not allowed") from None


def _first_line(problem: yaml.YAMLError) -> str:
    mark = getattr(problem, "problem_mark", None)
    what = getattr(problem, "problem", None) or str(problem).splitlines()[0]
    return f"line {mark.line + 1}: {what}" if mark else str(what)


class _Builder:
    """Turns parser events into JSON data without recursion. An aliased value counts each time it is used."""

    def __init__(self) -> None:
        self.duplicates: list[str] = []
        self._anchors: dict[str, Any] = {}
        self._sizes: dict[str, int] = {}
        self._aliased = 0
        self._nodes = 0

    def build(self, body: bytes) -> tuple[Any, list[str]]:
        # Each open collection: [container, key waiting for its value or None, anchor, nodes before it, merges]
        stack: list[list[Any]] = []
        result: Any = None
        for event in yaml.parse(body, Loader=_Loader):
            if isinstance(event, yaml.DocumentEndEvent):
                break
            if self._nodes > VALUES_MAX:
                raise Malformed(f"yaml: document contains more than {VALUES_MAX} values")
            if isinstance(event, yaml.ScalarEvent):
                self._nodes += 1
                value: Any = _scalar(event)
                self._remember(event.anchor, value, 1)
            elif isinstance(event, yaml.AliasEvent):
                value = self._alias(event)
            elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                if len(stack) >= DEPTH_MAX:
                    raise Malformed("yaml: exceeded max depth")
                container: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
                stack.append([container, None, event.anchor, self._nodes, []])
                self._nodes += 1
                continue
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                value, _, anchor, before, merges = stack.pop()
                for merged in merges:
                    for key, item in merged.items():
                        value.setdefault(key, item)
                self._remember(anchor, value, self._nodes - before)
            else:
                continue
            if not stack:
                result = value
            else:
                self._add(stack[-1], value, event)
        if isinstance(result, dict | list) and self._nodes > DEPTH_MAX:
            check_bounds(result)
        return result, self.duplicates

    def _remember(self, anchor: str | None, value: Any, size: int) -> None:
        if anchor:
            self._anchors[anchor], self._sizes[anchor] = value, size

    def _alias(self, event: Any) -> Any:
        if event.anchor not in self._anchors:
            raise Malformed(f"yaml: unknown anchor '{event.anchor}' referenced")
        size = self._sizes[event.anchor]
        self._nodes += size
        self._aliased += size
        if self._aliased > ALIASED_NODES_MAX:
            raise Malformed("yaml: document contains excessive aliasing")
        return self._anchors[event.anchor]

    def _add(self, frame: list[Any], value: Any, event: Any) -> None:
        container, key = frame[0], frame[1]
        if isinstance(container, list):
            container.append(value)
        elif key is None:
            frame[1] = (_key(value), event.start_mark.line + 1)
        else:
            frame[1] = None
            name, line = key
            if name == "<<":
                merges = value if isinstance(value, list) else [value]
                if not all(isinstance(one, dict) for one in merges):
                    raise Malformed("yaml: map merge requires map or sequence of maps as the value")
                frame[4] += merges
                return
            if name in container and len(self.duplicates) < DUPLICATES_MAX:
                self.duplicates.append(f'line {line}: key "{name}" already set in map')
            container[name] = value


def _key(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    raise Malformed("yaml: invalid map key")


def _scalar(event: yaml.ScalarEvent) -> Any:
    text, tag = event.value, event.tag
    if tag is None or tag == "!":
        return _plain(text) if event.implicit[0] and tag is None else text
    kind = tag.removeprefix(_TAG)
    if kind == "binary":
        try:
            return base64.b64decode(text).decode("utf-8", "replace")
        except binascii.Error:
            raise Malformed("yaml: !!binary value contains invalid base64 data") from None
    return text if kind not in ("int", "float", "bool", "null") else _plain(text)


def _plain(text: str) -> Any:
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if text[0] not in "+-.0123456789":
        return text
    if _INTEGER.fullmatch(text):
        return _integer(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) else text
    if _NOT_FINITE.fullmatch(text):
        raise Malformed(f"json: unsupported value: {text}")
    return text


def _integer(text: str) -> Any:
    """Reads an integer; one that 64 bits do not hold is a float, or a text if it is not decimal or not finite."""
    digits = text.replace("_", "")
    octal = re.fullmatch("[-+]?0[0-7]+", digits)
    if len(digits) <= _DIGITS_MAX:
        try:
            number = int(digits, 8 if octal else 0)
        except ValueError:  # such as 09: not octal, so a float to Go, printed as an integer
            return float(digits)
        if -(2**63) <= number < 2**64:
            return number
    if octal or not digits.lstrip("+-").isdigit():
        return text
    large = float(digits)
    return large if math.isfinite(large) else text


# ---------------------------------------------------------------- writing


class _Dumper(_BaseDumper):  # type: ignore[misc, valid-type]
    """Quotes whatever the reader above would not take for a text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.yaml_implicit_resolvers = {}
_Dumper.add_implicit_resolver(_TAG + "bool", re.compile("^(?:" + "|".join(_BOOLEANS) + ")$"), list("yYnNtTfFoO"))
_Dumper.add_implicit_resolver(_TAG + "int", re.compile(f"^(?:{_INTEGER.pattern})$"), list("-+0123456789"))
_Dumper.add_implicit_resolver(
    _TAG + "float", re.compile(f"^(?:{_FLOAT.pattern}|{_NOT_FINITE.pattern})$"), list("-+.0123456789")
)
_Dumper.add_implicit_resolver(_TAG + "null", re.compile("^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Dumper.add_implicit_resolver(_TAG + "timestamp", re.compile(r"^\d{4}-\d{1,2}-\d{1,2}"), list("0123456789"))
_Dumper.add_implicit_resolver(_TAG + "merge", re.compile("^<<$"), ["<"])


def _represent_text(dumper: Any, text: str) -> Any:
    """Chooses upstream's quotes: a block for several lines, double ones for what would not be read as a text."""
    style = None
    if "\n" in text:
        style = "|"
    elif _is_other(text):
        style = '"'
    return dumper.represent_scalar(_TAG + "str", text, style)


def _is_other(text: str) -> bool:
    if not text or text == "<<" or re.match(r"\d{4}-\d{1,2}-\d{1,2}", text):
        return True
    try:
        return not isinstance(_plain(text), str)
    except Malformed:
        return True


_Dumper.add_representer(str, _represent_text)


def encode(value: Any) -> bytes:
    """Encodes with sorted keys, folded lines and quotes as upstream does."""
    text: str = yaml.dump(value, Dumper=_Dumper, default_flow_style=False, allow_unicode=True, width=80)
    return text.encode()
