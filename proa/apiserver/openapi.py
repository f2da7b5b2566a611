"""/openapi/v2 and /openapi/v3: documents built when first asked for, kept compressed until what is served changes.

A v3 document is known by a hash of what it is made of, so the index costs no building; a client that asks by hash may
keep what it gets for good, and one that asks by an old hash is sent to the new one.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from proa.apis.apiextensions.custom_resources import CustomResourceStrategy
from proa.apis.registry import ResourceDef
from proa.apiserver.documents import VERSION
from proa.apiserver.encoding import encode
from proa.apiserver.negotiation import JSON, accept_clauses
from proa.apiserver.resources import Resources
from proa.apiserver.server import TEXT, HttpCall, HttpServer
from proa.meta.objects import Obj
from proa.wire.http import Response

_V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_V2_PROTOBUF_ALIAS = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"


class OpenApi:
    """Serves the documents of everything that `resources` holds."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._generation = -1
        self._hashes: dict[str, str] = {}
        self._kept: dict[str, tuple[str, bytes]] = {}  # document: the hash it was built for, compressed bytes

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
        tag = self._hashes["v2"]
        if chosen == JSON:
            return self._answer(call, self._document("v2", tag, self._build_v2), tag, JSON)
        body = self._document("v2.pb", tag, self._build_v2_protobuf)
        return self._answer(call, body, tag, _V2_PROTOBUF)

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
        body = encode(index_v3({name: tag for name, tag in self._hashes.items() if name != "v2"}))
        return Response(headers=[("Content-Type", TEXT)], body=body)

    async def _v3(self, call: HttpCall) -> Response:
        self._refresh()
        name = call.info.path.removeprefix("/openapi/v3/").strip("/")
        tag = self._hashes.get(name)
        if tag is None or name == "v2":
            return Response(status=404)
        if not any(clause.media_type in (JSON, "*/*") for clause in accept_clauses(call.accept)):
            return Response(status=406)
        asked = call.info.parameters.get("hash")
        if asked and asked != tag:
            return Response(status=301, headers=[("Location", f"/openapi/v3/{name}?hash={tag}")])
        body = self._document(name, tag, lambda: self._build_v3(name))
        caching = [("Cache-Control", "public, immutable")] if asked else []
        return self._answer(call, body, tag, JSON, caching)

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

    def _document(self, name: str, tag: str, build: Callable[[], bytes]) -> bytes:
        kept = self._kept.get(name)
        if kept is None or kept[0] != tag:
            kept = self._kept[name] = tag, gzip.compress(build(), 6)
        return kept[1]

    def _refresh(self) -> None:
        """Computes the hashes anew if other resources are served than before."""
        if self._generation == self._resources.generation:
            return
        from proa.meta.schema.openapi import document_names

        self._generation = self._resources.generation
        resources = self._all()
        hashes: dict[str, str] = {}
        everything = hashlib.sha512(VERSION.encode())
        customs: dict[str, list[Obj]] = {}
        for one in self._resources.all():
            if isinstance(one.strategy, CustomResourceStrategy):
                place = customs.setdefault(f"apis/{one.group}/{one.version}", [])
                place.append(
                    {"kind": one.kind, "plural": one.plural, "verbs": one.verbs, "schema": one.strategy.schema}
                )
        for name in document_names(resources):
            source = encode([VERSION, name, customs.get(name)])
            everything.update(source)
            hashes[name] = hashlib.sha512(source).hexdigest().upper()
        hashes["v2"] = everything.hexdigest().upper()
        self._hashes = hashes

    def _all(self) -> list[ResourceDef]:
        from proa.meta.schema.openapi import definition_name

        return [one if one.schema else replace(one, schema=definition_name(one.gvk)) for one in self._resources.all()]

    def _custom(self) -> dict[str, Obj]:
        from proa.meta.schema.openapi import custom_definitions

        found: dict[str, Obj] = {}
        for one in self._resources.all():
            if isinstance(one.strategy, CustomResourceStrategy):
                found |= custom_definitions(one.gvk, f"{one.kind}List", one.strategy.schema)
        return found

    def _build_v2(self) -> bytes:
        from proa.meta.schema.openapi import document_v2

        return encode(document_v2(self._all(), self._custom()))

    def _build_v2_protobuf(self) -> bytes:
        from proa.apiserver.openapi_protobuf import encode_v2
        from proa.meta.schema.openapi import document_v2

        return encode_v2(document_v2(self._all(), self._custom()))

    def _build_v3(self, name: str) -> bytes:
        from proa.meta.schema.openapi import document_v3

        return encode(document_v3(name, self._all(), self._custom()))
