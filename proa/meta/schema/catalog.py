"""The compiled schema at hand: `definition(name)` reads one definition when it is first asked for.

The compiled form lies in a file under $XDG_CACHE_HOME (or ~/.cache), made atomically on first use and named after the
versions that it was made from; where no file can be written, it is compiled in memory. Loading reads one index line.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import msgspec

from proa.meta.gvk import GVK
from proa.meta.objects import Obj
from proa.meta.schema import build

SCALARS = frozenset("sybilnqotua")


@dataclass(frozen=True, slots=True)
class Field:
    """A struct's field. `type` is a code of `build`; `always`: written even when absent (`null`: as null);
    `keep_zero`: a pointer."""

    name: str
    type: str
    always: bool = False
    null: bool = False
    keep_zero: bool = False
    inlined: str = ""
    list_type: str = ""
    list_keys: tuple[str, ...] = ()
    map_type: str = ""
    patch_strategy: tuple[str, ...] = ()
    patch_key: str = ""


@dataclass(frozen=True, slots=True)
class Definition:
    """A struct (`fields` in upstream's order), or with `alias` another name for a type code."""

    name: str
    fields: Mapping[str, Field] = field(default_factory=dict)
    alias: str = ""
    kinds: tuple[GVK, ...] = ()
    map_type: str = ""

    @property
    def go_type(self) -> str:
        """The type as Go's messages name it: `v1.PodSpec`."""
        return ".".join(self.name.split(".")[-2:])


def _definition(name: str, form: Obj) -> Definition:
    if "=" in form:
        return Definition(name, alias=form["="])
    fields: dict[str, Field] = {}
    for key, (kind, flags, *rest) in form["f"].items():
        marks = rest[0] if rest else {}
        flags, _, inlined = flags.partition("/")
        fields[key] = Field(
            key,
            kind,
            "a" in flags,
            "n" in flags,
            "p" in flags,
            inlined,
            marks.get("lt", ""),
            tuple(marks.get("lk", ())),
            marks.get("mt", ""),
            tuple(marks["ps"].split(",")) if "ps" in marks else (),
            marks.get("mk", ""),
        )
    return Definition(name, fields, "", tuple(GVK(*kind) for kind in form.get("k", ())), form.get("m", ""))


class Catalog:
    """All compiled definitions, each decoded when first used."""

    def __init__(self, packed: bytes) -> None:
        end = packed.index(b"\n")
        self._index: dict[str, list[int]] = msgspec.json.decode(packed[:end])
        self._forms = memoryview(packed)[end + 1 :]
        self._definitions: dict[str, Definition] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._index

    def get(self, name: str) -> Definition | None:
        return self[name] if name in self._index else None

    @property
    def names(self) -> list[str]:
        return list(self._index)

    def __getitem__(self, name: str) -> Definition:
        found = self._definitions.get(name)
        if found is None:
            start, length = self._index[name]
            form = msgspec.json.decode(self._forms[start : start + length])
            found = self._definitions[name] = _definition(name, form)
        return found


def pack(forms: Mapping[str, Obj]) -> bytes:
    """Packs compiled forms: an index line, then the forms one after another."""
    index: dict[str, list[int]] = {}
    parts: list[bytes] = []
    at = 0
    for name, form in forms.items():
        part = msgspec.json.encode(form)
        index[name] = [at, len(part)]
        parts.append(part)
        at += len(part)
    return msgspec.json.encode(index) + b"\n" + b"".join(parts)


@cache
def catalog() -> Catalog:
    """Returns the catalog of built-in definitions, compiled on first use."""
    path = _cache_folder() / f"schema-{build.source_version()}.bin"
    try:
        return Catalog(path.read_bytes())
    except (OSError, ValueError):
        packed = pack(build.compile_all())
        _write(path, packed)
        return Catalog(packed)


def definition(name: str) -> Definition:
    """Returns a built-in definition, such as io.k8s.api.core.v1.Pod; raises KeyError."""
    return catalog()[name]


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "proa"


def _write(path: Path, content: bytes) -> None:
    import tempfile  # seldom needed, and slow to import

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
            file.write(content)
        os.replace(file.name, path)
    except OSError:
        pass  # no cache then: compiling again costs a tenth of a second
