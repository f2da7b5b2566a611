"""Paths and operations of the API, as OpenAPI lists them, derived from what resources there are.

An `Operation` is neutral; `openapi` writes it in version 2 or 3. Names, actions and parameters follow upstream's
published documents. `Resource` is the part of a resource definition that matters here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from proa.meta.gvk import GVK

META = "io.k8s.apimachinery.pkg.apis.meta.v1."
JSON_YAML = ("application/json", "application/yaml")
JSON_YAML_PROTOBUF = (*JSON_YAML, "application/vnd.kubernetes.protobuf")
_STREAMS = ("application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch")
PATCH_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
# kubectl reads here what it may send: a custom resource has no strategies to merge by.
CUSTOM_PATCH_TYPES = tuple(one for one in PATCH_TYPES if "strategic" not in one)


class Subresource(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def verbs(self) -> tuple[str, ...]: ...
    @property
    def kind(self) -> GVK: ...


class Resource(Protocol):
    """What a resource definition says; every ResourceDef does."""

    @property
    def group(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def plural(self) -> str: ...
    @property
    def namespaced(self) -> bool: ...
    @property
    def verbs(self) -> tuple[str, ...]: ...
    @property
    def subresources(self) -> Sequence[Any]: ...
    @property
    def schema(self) -> str: ...
    @property
    def custom(self) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path. `action` and `kind` are absent for discovery; types are definition names or `string`."""

    path: str
    method: str
    id: str
    summary: str
    tag: str
    action: str = ""
    kind: GVK | None = None
    query: tuple[str, ...] = ()
    body: str = ""
    responses: tuple[tuple[str, str], ...] = ()
    consumes: tuple[str, ...] = ("*/*",)
    produces: tuple[str, ...] = JSON_YAML_PROTOBUF


_LIST = (
    "allowWatchBookmarks continue fieldSelector labelSelector limit pretty resourceVersion resourceVersionMatch "
    "sendInitialEvents shardSelector timeoutSeconds watch"
)
_WRITE = "dryRun fieldManager fieldValidation pretty"
_DELETE = (
    "dryRun gracePeriodSeconds ignoreStoreReadErrorWithClusterBreakingPotential orphanDependents pretty "
    "propagationPolicy"
)
QUERIES = {
    "get": ("pretty",),
    "list": tuple(_LIST.split()),
    "write": tuple(_WRITE.split()),
    "patch": ("dryRun", "fieldManager", "fieldValidation", "force", "pretty"),
    "delete": tuple(_DELETE.split()),
    "deletecollection": tuple(sorted({*_DELETE.split(), *_LIST.split()} - {"allowWatchBookmarks", "watch"})),
}
LOG_QUERY = (
    "container follow insecureSkipTLSVerifyBackend limitBytes pretty previous sinceSeconds stream tailLines timestamps"
)
# Query parameters of subresources that connect, by name of the options' kind
CONNECT = {
    "PodExecOptions": ("command", "container", "stderr", "stdin", "stdout", "tty"),
    "PodAttachOptions": ("container", "stderr", "stdin", "stdout", "tty"),
    "PodPortForwardOptions": ("ports",),
    "PodProxyOptions": ("path",),
    "ServiceProxyOptions": ("path",),
    "NodeProxyOptions": ("path",),
}
_PROXY_METHODS = ("delete", "get", "head", "options", "patch", "post", "put")

# Resources whose deletion answers with the object itself.
_DELETION_SHOWS = frozenset(
    {
        *("PersistentVolumeClaim", "PersistentVolume", "Pod", "PodTemplate", "ResourceQuota", "Service"),
        *("ServiceAccount", "DeviceClass", "ResourceClaim", "ResourceClaimTemplate", "ResourceSlice", "CSIDriver"),
        *("CSINode", "StorageClass", "VolumeAttachment", "VolumeAttributesClass"),
    }
)


def group_name(group: str) -> str:
    """Returns how operations name a group: Core, Apps, RbacAuthorization."""
    parts = group.removesuffix(".k8s.io").split(".") if group else ["core"]
    return "".join(part[:1].upper() + part[1:] for part in parts)


def base_path(group: str, version: str) -> str:
    return f"/apis/{group}/{version}" if group else f"/api/{version}"


def _title(text: str) -> str:
    return text[:1].upper() + text[1:]


def _tag(group: str, version: str) -> str:
    name = group_name(group)
    words = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip().split()
    return f"{words[0]}{''.join(map(_title, words[1:]))}" + (f"_{version}" if version else "")


def of_group_version(resources: Iterable[Resource], group: str, version: str, kinds: dict[GVK, str]) -> list[Operation]:
    """Returns the operations of one group and version; `kinds` maps kinds to definition names."""
    named, tag = group_name(group) + _title(version), _tag(group, version)
    root = Operation(
        path=base_path(group, version) + "/",
        method="get",
        id=f"get{named}APIResources",
        summary="get available resources",
        tag=tag,
        responses=(("200", META + "APIResourceList"), ("401", "")),
        consumes=JSON_YAML_PROTOBUF,
    )
    found = [root]
    for resource in resources:
        if (resource.group, resource.version) == (group, version):
            found += _Writer(resource, named, tag, kinds).all()
    return sorted(found, key=lambda one: (one.path, one.method))


def of_discovery(groups: Iterable[str]) -> list[Operation]:
    """Returns the operations outside of any group version: discovery, version, keys of service accounts."""

    def read(path: str, name: str, summary: str, answer: str, tag: str, **more: Any) -> Operation:
        responses = (("200", answer), ("401", ""))
        return Operation(path=path, method="get", id=name, summary=summary, tag=tag, responses=responses, **more)

    discovery = {"consumes": JSON_YAML_PROTOBUF}
    found = [
        read("/api/", "getCoreAPIVersions", "get available API versions", META + "APIVersions", "core", **discovery),
        read("/apis/", "getAPIVersions", "get available API versions", META + "APIGroupList", "apis", **discovery),
        read(
            "/version/",
            "getCodeVersion",
            "get the version information for this server",
            "io.k8s.apimachinery.pkg.version.Info",
            "version",
            consumes=("application/json",),
            produces=("application/json",),
        ),
        read(
            "/.well-known/openid-configuration/",
            "getServiceAccountIssuerOpenIDConfiguration",
            "get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'",
            "string",
            "WellKnown",
            consumes=(),
            produces=("application/json",),
        ),
        read(
            "/openid/v1/jwks/",
            "getServiceAccountIssuerOpenIDKeyset",
            "get service account issuer OpenID JSON Web Key Set (contains public token verification keys)",
            "string",
            "openid",
            consumes=(),
            produces=("application/jwk-set+json",),
        ),
    ]
    for group in groups:
        if group:
            name, tag = f"get{group_name(group)}APIGroup", _tag(group, "")
            summary = "get information of a group"
            found.append(read(f"/apis/{group}/", name, summary, META + "APIGroup", tag, **discovery))
    return found


class _Writer:
    """Lists one resource's operations."""

    def __init__(self, resource: Resource, named: str, tag: str, kinds: dict[GVK, str]) -> None:
        self.resource, self.named, self.tag, self.kinds = resource, named, tag, kinds
        self.kind = GVK(resource.group, resource.version, resource.kind)
        self.scoped = f"Namespaced{resource.kind}" if resource.namespaced else resource.kind
        self.root = base_path(resource.group, resource.version)
        inside = "/namespaces/{namespace}" if resource.namespaced else ""
        self.below = f"{inside}/{resource.plural}"

    def all(self) -> Iterator[Operation]:
        verbs, schema = self.resource.verbs, self.resource.schema
        collection = self.root + self.below
        item = collection + "/{name}"
        kind, scoped = self.resource.kind, self.scoped
        answers = (("200", schema), ("201", schema))
        if "list" in verbs:
            yield self._list(collection, f"list{self.named}{scoped}")
            if self.resource.namespaced:
                everywhere = f"list{self.named}{kind}ForAllNamespaces"
                yield self._list(f"{self.root}/{self.resource.plural}", everywhere)
        if "create" in verbs:
            yield self._write(collection, "post", f"create{self.named}{scoped}", schema, self.kind, "create a")
        if "deletecollection" in verbs:
            yield self._op(
                collection,
                "delete",
                f"delete{self.named}Collection{scoped}",
                "deletecollection",
                summary=f"delete collection of {kind}",
                query=QUERIES["deletecollection"],
                body=META + "DeleteOptions",
                responses=(("200", META + "Status"),),
            )
        if "get" in verbs:
            yield self._read(item, f"read{self.named}{scoped}", schema, self.kind)
        if "update" in verbs:
            yield self._write(item, "put", f"replace{self.named}{scoped}", schema, self.kind, "replace the specified")
        if "patch" in verbs:
            yield self._patch(item, f"patch{self.named}{scoped}", self.kind, answers)
        if "delete" in verbs:
            shown = schema if kind in _DELETION_SHOWS else META + "Status"
            yield self._op(
                item,
                "delete",
                f"delete{self.named}{scoped}",
                "delete",
                summary=f"delete a {kind}",
                query=QUERIES["delete"],
                body=META + "DeleteOptions",
                responses=(("200", shown), ("202", shown)),
            )
        if "watch" in verbs:
            yield from self._watches(collection)
        for subresource in self.resource.subresources:
            yield from self._subresource(item, subresource)

    def _op(self, path: str, method: str, name: str, action: str, **more: Any) -> Operation:
        more.setdefault("kind", self.kind)
        more["responses"] = (*more["responses"], ("401", ""))
        if self.resource.custom:
            more["produces"] = JSON_YAML
        return Operation(path=path, method=method, id=name, action=action, tag=self.tag, **more)

    def _list(self, path: str, name: str) -> Operation:
        summary = f"list or watch objects of kind {self.resource.kind}"
        responses = (("200", self.resource.schema + "List"),)
        produces = JSON_YAML_PROTOBUF + _STREAMS
        query = QUERIES["list"]
        return self._op(path, "get", name, "list", summary=summary, query=query, responses=responses, produces=produces)

    def _watches(self, collection: str) -> Iterator[Operation]:
        kind, scoped, plural = self.resource.kind, self.scoped, self.resource.plural
        single = self.root + "/watch" + collection.removeprefix(self.root)
        paths = [(single, f"watch{self.named}{scoped}List", "watchlist")]
        if "get" in self.resource.verbs:
            paths.append((single + "/{name}", f"watch{self.named}{scoped}", "watch"))
        if self.resource.namespaced:
            name = f"watch{self.named}{kind}ListForAllNamespaces"
            paths.append((f"{self.root}/watch/{plural}", name, "watchlist"))
        for path, name, action in paths:
            yield self._op(
                path,
                "get",
                name,
                action,
                summary=f"watch changes to an object of kind {kind}; deprecated: use `watch` with a list operation",
                query=QUERIES["list"],
                responses=(("200", META + "WatchEvent"),),
                produces=JSON_YAML_PROTOBUF + _STREAMS,
            )

    def _read(self, path: str, name: str, schema: str, kind: GVK, of: str = "") -> Operation:
        summary = f"read {of}the specified {self.resource.kind}"
        responses = (("200", schema),)
        return self._op(path, "get", name, "get", summary=summary, query=QUERIES["get"], responses=responses, kind=kind)

    def _write(self, path: str, method: str, name: str, schema: str, kind: GVK, what: str) -> Operation:
        codes = ("200", "201", "202") if method == "post" else ("200", "201")
        return self._op(
            path,
            method,
            name,
            method,
            summary=f"{what} {self.resource.kind}",
            query=QUERIES["write"],
            body=schema,
            responses=tuple((code, schema) for code in codes),
            kind=kind,
        )

    def _patch(self, path: str, name: str, kind: GVK, answers: tuple[tuple[str, str], ...], of: str = "") -> Operation:
        summary = f"partially update {of}the specified {self.resource.kind}"
        query, body = QUERIES["patch"], META + "Patch"
        consumes = CUSTOM_PATCH_TYPES if self.resource.custom else PATCH_TYPES
        more: dict[str, Any] = {"consumes": consumes, "kind": kind, "responses": answers}
        return self._op(path, "patch", name, "patch", summary=summary, query=query, body=body, **more)

    def _subresource(self, item: str, sub: Subresource) -> Iterator[Operation]:
        path, suffix = f"{item}/{sub.name}", self.scoped + _title(sub.name)
        if sub.kind.kind in CONNECT:
            yield from self._connect(path, sub, suffix)
            return
        if sub.name == "log":
            yield self._op(
                path,
                "get",
                f"read{self.named}{suffix}",
                "get",
                summary=f"read log of the specified {self.resource.kind}",
                query=tuple(LOG_QUERY.split()),
                responses=(("200", "string"),),
                produces=("text/plain", *JSON_YAML_PROTOBUF),
            )
            return
        schema = self.kinds.get(sub.kind, self.resource.schema)
        answers = (("200", schema), ("201", schema))
        suffix = self.scoped + {"ephemeralcontainers": "Ephemeralcontainers"}.get(sub.name, _title(sub.name))
        of = f"{sub.name} of "
        if "get" in sub.verbs:
            yield self._read(path, f"read{self.named}{suffix}", schema, sub.kind, of)
        if "create" in sub.verbs:
            yield self._write(path, "post", f"create{self.named}{suffix}", schema, sub.kind, f"create {of}a")
        if "update" in sub.verbs:
            name = f"replace{self.named}{suffix}"
            yield self._write(path, "put", name, schema, sub.kind, f"replace {of}the specified")
        if "patch" in sub.verbs:
            yield self._patch(path, f"patch{self.named}{suffix}", sub.kind, answers, of)

    def _connect(self, path: str, sub: Subresource, suffix: str) -> Iterator[Operation]:
        proxied = sub.name == "proxy"
        for tail, ending in (("", ""), ("/{path}", "WithPath")) if proxied else (("", ""),):
            for method in _PROXY_METHODS if proxied else ("get", "post"):
                yield self._op(
                    path + tail,
                    method,
                    f"connect{self.named}{_title(method)}{suffix}{ending}",
                    "connect",
                    summary=f"connect {method.upper()} requests to {sub.name} of {self.resource.kind}",
                    query=CONNECT[sub.kind.kind],
                    responses=(("200", "string"),),
                    kind=sub.kind,
                    produces=("*/*",),
                )
