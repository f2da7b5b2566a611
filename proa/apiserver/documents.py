"""Paths outside the API: discovery, version, the index of paths. Documents are made when first asked for and kept
until the resources that are served change; each has an ETag."""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Callable, Mapping

from proa.apis import discovery_documents as discovery
from proa.apiserver.negotiation import JSON, OBJECT_TYPES, accept_clauses, negotiate_document, not_transformable
from proa.apiserver.rendering import document
from proa.apiserver.resources import Resources, unknown_resource
from proa.apiserver.server import HttpCall, HttpServer, PageNotFound, RawHandler, method_not_allowed
from proa.meta.objects import Obj
from proa.wire.http import Response

VERSION = "v1.36.2"
_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def version_document() -> Obj:
    """Returns what /version says: the API level that is served, and what serves it."""
    major, minor, _ = VERSION.lstrip("v").split(".")
    architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
    return {
        "major": major,
        "minor": minor,
        "emulationMajor": major,
        "emulationMinor": minor,
        "minCompatibilityMajor": major,
        "minCompatibilityMinor": str(int(minor) - 1),
        "gitVersion": f"{VERSION}+proa",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": f"python{sys.version_info.major}.{sys.version_info.minor}",
        "compiler": sys.implementation.name,
        "platform": f"{sys.platform}/{architecture}",
    }


class Documents:
    """Serves discovery. `aggregated` yields what other servers serve, `priorities` what APIServices say of our own
    versions; `address` is ours, as clients reach it."""

    def __init__(self, resources: Resources, address: Callable[[], str]) -> None:
        self._resources = resources
        self._address = address
        self.aggregated: Callable[[], list[discovery.ServedVersion]] = list
        self.aggregated_generation: Callable[[], int] = lambda: 0
        self.priorities: Callable[[], Mapping[tuple[str, str], tuple[int, int]]] = dict
        self._served: list[discovery.ServedVersion] = []
        self._kept: dict[tuple[str, str], tuple[bytes, str]] = {}
        self._made_for = (-1, -1)

    def served(self) -> list[discovery.ServedVersion]:
        """Returns what is served now, in discovery order."""
        now = self._resources.generation, self.aggregated_generation()
        if now != self._made_for:
            self._made_for = now
            self._kept.clear()
            self._served = discovery.served_versions(self._resources.all(), self.aggregated(), self.priorities())
        return self._served

    def install(self, server: HttpServer) -> None:
        server.paths["/api"] = self._legacy
        server.paths["/apis"] = self._groups
        server.path_prefixes["/api/"] = self._version
        server.path_prefixes["/apis/"] = self._group_or_version
        server.paths["/version"] = self._version_info
        server.paths["/"] = self._index(server)

    # ------------------------------------------------------------ handlers

    async def _version_info(self, call: HttpCall) -> Response:
        _only_get(call)
        negotiate_document(call.accept, (JSON,))
        body = document(version_document(), JSON, pretty=True)
        return Response(headers=[("Content-Type", JSON)], body=body)

    def _index(self, server: HttpServer) -> RawHandler:
        async def index(call: HttpCall) -> Response:
            paths = {*server.paths} - {"/"}
            for one in self.served():
                base = f"/apis/{one.group}" if one.group else "/api"
                paths |= {base, f"{base}/{one.version}"}
            return Response(
                headers=[("Content-Type", JSON)], body=document({"paths": sorted(paths)}, JSON, pretty=True)
            )

        return index

    async def _legacy(self, call: HttpCall) -> Response:
        _only_get(call)
        if self._wants_aggregated(call):
            return self._aggregated(call, core=True)
        return self._plain(call, discovery.api_versions(self.served(), self._address()))

    async def _groups(self, call: HttpCall) -> Response:
        if self._wants_aggregated(call):
            return self._aggregated(call, core=False)
        return self._plain(call, discovery.api_group_list(self.served()))

    async def _version(self, call: HttpCall) -> Response:
        version = call.info.path.strip("/").split("/")[1:]
        return self._resource_list(call, "", version)

    async def _group_or_version(self, call: HttpCall) -> Response:
        group, *version = call.info.path.strip("/").split("/")[1:]
        if not version:
            found = discovery.api_group(self.served(), group)
            if found is None:
                raise PageNotFound
            _only_get(call)
            return self._plain(call, found)
        return self._resource_list(call, group, version)

    def _resource_list(self, call: HttpCall, group: str, version: list[str]) -> Response:
        served = self.served()
        if not any(one.group == group for one in served):
            raise PageNotFound
        found = next((one for one in served if [one.version] == version and one.group == group), None)
        if found is None:
            raise unknown_resource()
        _only_get(call)
        return self._plain(call, discovery.api_resource_list(found))

    # ------------------------------------------------------------ forms

    def _wants_aggregated(self, call: HttpCall) -> bool:
        """Tells which form of /api or /apis; raises the 406 StatusError if the header allows neither."""
        for clause in accept_clauses(call.accept):
            asked = clause.parameters
            if clause.media_type not in (*OBJECT_TYPES, "*/*"):
                continue
            if not asked.get("as"):
                return False
            if (asked.get("g"), asked.get("v"), asked["as"]) == ("apidiscovery.k8s.io", "v2", "APIGroupDiscoveryList"):
                return True
        if call.info.path.rstrip("/") == "/api":
            negotiate_document(call.accept)
        raise not_transformable(OBJECT_TYPES)

    def _aggregated(self, call: HttpCall, *, core: bool) -> Response:
        served = self.served()
        key = ("core" if core else "groups", "aggregated")
        if key not in self._kept:
            body = document(discovery.aggregated_discovery(served, core=core), JSON)
            self._kept[key] = body, hashlib.sha256(body).hexdigest().upper()
        body, tag = self._kept[key]
        return etagged(call, body, tag, _AGGREGATED)

    def _plain(self, call: HttpCall, obj: Obj) -> Response:
        media_type = negotiate_document(call.accept)
        return Response(headers=[("Content-Type", media_type)], body=document(obj, media_type, call.pretty))


def json_path(make: Callable[[], Obj], content_type: str = JSON) -> RawHandler:
    """Returns a handler that answers with a document, made for each request."""

    async def handler(call: HttpCall) -> Response:
        negotiate_document(call.accept, (content_type,))
        return Response(headers=[("Content-Type", content_type)], body=document(make(), JSON))

    return handler


def etagged(call: HttpCall, body: bytes, tag: str, content_type: str) -> Response:
    """Answers with an ETag, or 304 if the client has it already."""
    headers = [("Content-Type", content_type), ("ETag", f'"{tag}"'), ("Vary", "Accept")]
    if call.request.header("if-none-match") == f'"{tag}"':
        return Response(status=304, headers=headers[1:])
    return Response(headers=headers, body=body)


def _only_get(call: HttpCall) -> None:
    if call.request.method not in ("GET", "HEAD"):
        raise method_not_allowed()
