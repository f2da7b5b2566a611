"""/openapi/v2 and /openapi/v3: documents built when first asked for, kept compressed until what is served changes.

A v3 document is known by a hash of what it is made of, so the index costs no building; a client that asks by hash may
keep what it gets for good, and one that asks by an old hash is sent to the new one. The change of one custom resource
makes its group version's v3 document anew, and of the v2 document its own part only.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import msgspec

from proa.apis.apiextensions.custom_resources import CustomResourceStrategy, published
from proa.apis.apiextensions.forms import Form
from proa.apis.registry import ResourceDef
from proa.apiserver.aggregator.specs import RemoteSpecs, Spec
from proa.apiserver.documents import VERSION
from proa.apiserver.encoding import encode
from proa.apiserver.negotiation import JSON, accept_clauses
from proa.apiserver.resources import Resources
from proa.apiserver.server import TEXT, HttpCall, HttpServer
from proa.meta.errors import unavailable
from proa.meta.objects import Obj
from proa.util import deflate
from proa.wire.http import Response

_V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_V2_PROTOBUF_ALIAS = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
GroupVersion = tuple[str, str]
T = TypeVar("T")


class OpenApi:
    """Serves the documents of everything that `resources` holds, and of what extension servers serve."""

    def __init__(self, resources: Resources, remotes: RemoteSpecs) -> None:
        self._resources = resources
        self._remotes = remotes
        self._generation = -1
        self._hashes: dict[str, str] = {}
        self._by_version: dict[GroupVersion, list[ResourceDef]] = {}
        self._v2_parts = PartsV2()
        self._building = asyncio.Lock()
        self._kept: dict[str, tuple[str, bytes]] = {}  # document: the hash it was built for, compressed bytes
        self._merged: dict[str, tuple[str, bytes]] = {}  # v2 documents with what others serve, by media type

    def install(self, server: HttpServer) -> None:
        server.paths["/openapi/v2"] = self._v2
        server.paths["/openapi/v3"] = self._index
        server.path_prefixes["/openapi/v3/"] = self._v3

    # ------------------------------------------------------------ handlers

    async def _v2(self, call: HttpCall) -> Response:
        self._refresh()
        chosen = self._v2_type(call)
        if chosen is None:
            return Response(status=406)
        parts = [one for one in await self._remotes.current() if one.part is not None]
        async with self._building:
            if parts:
                tag, body = await self._merged_v2(chosen, parts)
            else:
                tag, body = await self._own_v2(chosen)
        return self._answer(call, body, tag, chosen)

    async def _own_v2(self, chosen: str) -> tuple[str, bytes]:
        """Returns the hash and the compressed bytes of what this server serves itself."""
        tag = self._hashes["v2"]
        name, make = ("v2", self._v2_parts.json) if chosen == JSON else ("v2.pb", self._v2_parts.protobuf)
        kept = self._kept.get(name)
        if kept is None or kept[0] != tag:
            custom = [one for one in self._resources.all() if one.custom]
            kept = self._kept[name] = tag, await make(self._builtin(), custom)
        return kept

    async def _merged_v2(self, chosen: str, remotes: Sequence[Spec]) -> tuple[str, bytes]:
        """Returns the same with what extension servers serve."""
        texts = [self._hashes["v2"], *(f"{one.name}={one.tag}" for one in remotes)]
        tag = hashlib.sha512(" ".join(texts).encode()).hexdigest().upper()
        kept = self._merged.get(chosen)
        if kept is None or kept[0] != tag:
            _, own = await self._own_v2(JSON)
            parts = [one.part for one in remotes if one.part is not None]
            kept = self._merged[chosen] = tag, await asyncio.to_thread(_merge, own, parts, chosen)
        return kept

    @staticmethod
    def _v2_type(call: HttpCall) -> str | None:
        for clause in accept_clauses(call.accept):
            if clause.media_type in (JSON, "*/*"):
                return JSON
            if clause.media_type in (_V2_PROTOBUF, _V2_PROTOBUF_ALIAS):
                return _V2_PROTOBUF
        return None

    async def _index(self, call: HttpCall) -> Response:
        from proa.meta.schema.openapi import index_v3

        self._refresh()
        hashes = {name: tag for name, tag in self._hashes.items() if name != "v2"}
        hashes |= {one.name: one.v3_hash for one in await self._remotes.current() if one.v3_hash}
        return Response(headers=[("Content-Type", TEXT)], body=encode(index_v3(hashes)))

    async def _v3(self, call: HttpCall) -> Response:
        self._refresh()
        name = call.info.path.removeprefix("/openapi/v3/").strip("/")
        remote = next((one for one in await self._remotes.current() if one.name == name and one.v3_hash), None)
        tag = remote.v3_hash if remote is not None else self._hashes.get(name)
        if tag is None or name == "v2":
            return Response(status=404)
        if not any(clause.media_type in (JSON, "*/*") for clause in accept_clauses(call.accept)):
            return Response(status=406)
        asked = call.info.parameters.get("hash")
        if asked and asked != tag:
            return Response(status=301, headers=[("Location", f"/openapi/v3/{name}?hash={tag}")])
        kept = self._kept.get(name)
        if kept is None or kept[0] != tag:
            document = await _document_of(remote) if remote is not None else self._build_v3(name)
            kept = self._kept[name] = tag, gzip.compress(document, 6)
        caching = [("Cache-Control", "public, immutable")] if asked else []
        return self._answer(call, kept[1], tag, JSON, caching)

    @staticmethod
    def _answer(
        call: HttpCall, compressed: bytes, tag: str, content_type: str, more: Sequence[tuple[str, str]] = ()
    ) -> Response:
        headers = [("Content-Type", content_type), ("ETag", f'"{tag}"'), ("Vary", "Accept-Encoding, Accept"), *more]
        if call.request.header("if-none-match") == f'"{tag}"':
            return Response(status=304, headers=headers[1:])
        if "gzip" in call.request.header("accept-encoding"):
            return Response(headers=[*headers, ("Content-Encoding", "gzip")], body=compressed)
        return Response(headers=headers, body=gzip.decompress(compressed))

    # ------------------------------------------------------------ building

    def _refresh(self) -> None:
        """Computes the hashes anew if other resources are served than before."""
        if self._generation == self._resources.generation:
            return
        from proa.meta.schema.openapi import document_names

        self._generation = self._resources.generation
        self._by_version = {}
        prints: dict[str, list[bytes]] = {}
        for one in self._resources.all():
            self._by_version.setdefault((one.group, one.version), []).append(one)
            if isinstance(one.strategy, CustomResourceStrategy):
                prints.setdefault(f"apis/{one.group}/{one.version}", []).append(one.strategy.fingerprint)
        everything = hashlib.sha512(VERSION.encode())
        hashes: dict[str, str] = {}
        for name in document_names(self._resources.all()):
            if self._resources.is_custom_group(name.removeprefix("apis/")):
                continue  # of groups that only custom resources have there is no document
            source = encode([VERSION, name]) + b"".join(prints.get(name, ()))
            everything.update(source)
            hashes[name] = hashlib.sha512(source).hexdigest().upper()
        hashes["v2"] = everything.hexdigest().upper()
        self._hashes = hashes
        for name in [one for one in self._kept if one.partition(".pb")[0] not in hashes]:
            del self._kept[name]

    def _builtin(self) -> list[ResourceDef]:
        return [_named(one) for one in self._resources.builtin()]

    def _build_v3(self, name: str) -> bytes:
        from proa.meta.schema.openapi import document_v3

        parts = name.split("/")
        if parts[0] in ("api", "apis") and len(parts) > 1:
            # A group's document needs that group only.
            group = parts[1] if parts[0] == "apis" else ""
            chosen = [one for (each, _), ones in self._by_version.items() if each == group for one in ones]
            if len(parts) > (2 if group else 1):
                chosen = [one for one in chosen if one.version == parts[-1]]
            custom = published(chosen, v3=True)
        else:
            chosen, custom = list(self._resources.all()), {}
        return encode(document_v3(name, [_named(one) for one in chosen], custom))


async def _document_of(remote: Spec) -> bytes:
    """Returns an extension server's v3 document; raises the 503 StatusError."""
    try:
        return await remote.v3()
    except (OSError, ValueError) as error:
        raise unavailable(f"the OpenAPI document of {remote.name} cannot be had: {error}") from error


def _merge(own: bytes, parts: Sequence[Obj], media_type: str) -> bytes:
    """Returns our own compressed v2 document with others' parts, compressed, in a media type."""
    from proa.meta.schema.merging import merged

    document = merged(msgspec.json.decode(gzip.decompress(own)), parts)
    if media_type == JSON:
        return gzip.compress(encode(document), 6)
    from proa.apiserver.openapi_protobuf import encode_v2

    return gzip.compress(encode_v2(document), 6)


def _named(one: ResourceDef) -> ResourceDef:
    """Returns a definition that tells its schema's name."""
    from proa.meta.schema.custom_openapi import definition_name

    return one if one.schema else replace(one, schema=definition_name(one.gvk))


class PartsV2:
    """The v2 document in compressed parts: one for all built-in resources, one for each custom one.

    In JSON every resource has a part in `paths` and one in `definitions`; protobuf messages are joined by writing them
    one after the other.
    """

    def __init__(self) -> None:
        self._builtin_json: tuple[bytes, bytes, bytes] | None = None
        self._builtin_protobuf: bytes | None = None
        self._json: dict[Form | None, tuple[bytes, bytes]] = {}
        self._protobuf: dict[Form | None, bytes] = {}

    async def json(self, builtin: Sequence[ResourceDef], custom: Sequence[ResourceDef]) -> bytes:
        """Returns the document in JSON, as gzip."""
        if self._builtin_json is None:
            self._builtin_json = _builtin_json(builtin)
        self._json = await _with_breaths(self._json, custom, _part_json)
        paths, definitions, end = self._builtin_json
        return deflate.joined(
            [paths, *(one for one, _ in self._json.values()), definitions]
            + [*(one for _, one in self._json.values()), end]
        )

    async def protobuf(self, builtin: Sequence[ResourceDef], custom: Sequence[ResourceDef]) -> bytes:
        """Returns the document in protobuf, as gzip."""
        from proa.apiserver.openapi_protobuf import encode_v2
        from proa.meta.schema.openapi import document_v2

        if self._builtin_protobuf is None:
            self._builtin_protobuf = deflate.part(encode_v2(document_v2(builtin)))
        self._protobuf = await _with_breaths(self._protobuf, custom, lambda one: deflate.part(encode_v2(_part(one))))
        return deflate.joined([self._builtin_protobuf, *self._protobuf.values()])


async def _with_breaths(
    known: dict[Form | None, T], custom: Sequence[ResourceDef], make: Callable[[ResourceDef], T]
) -> dict[Form | None, T]:
    """Returns the part of every custom resource, made or known; lets others run in between."""
    made: dict[Form | None, T] = {}
    for one in custom:
        found = known.get(one.form)
        if found is None:
            found = make(one)
            await asyncio.sleep(0)
        made[one.form] = found
    return made


def _builtin_json(builtin: Sequence[ResourceDef]) -> tuple[bytes, bytes, bytes]:
    """Returns the document up to the end of the paths, on to the end of the definitions, and the rest."""
    from proa.meta.schema.openapi import document_v2

    made = document_v2(builtin)
    paths, definitions = encode(made.pop("paths"))[:-1], encode(made.pop("definitions"))[:-1]
    rest = encode(made)
    end = b"}," + rest[1:]
    return deflate.part(b'{"paths":' + paths), deflate.part(b'},"definitions":' + definitions), deflate.part(end)


def _part(one: ResourceDef) -> Obj:
    from proa.meta.schema.openapi import part_v2

    return part_v2(one, published([one], v3=False))


def _part_json(one: ResourceDef) -> tuple[bytes, bytes]:
    made = _part(one)
    return deflate.part(_more(made["paths"])), deflate.part(_more(made["definitions"]))


def _more(members: Obj) -> bytes:
    """Returns members of a JSON object, to stand behind others."""
    return b"," + encode(members)[1:-1] if members else b""
