"""What a request asks for: its path, method and query as verb, resource, namespace, name, subresource.

Follows upstream's `apiserver/pkg/endpoints/request` (RequestInfoFactory), the deprecated `/watch/` paths included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

from proa.meta.errors import StatusError, bad_request
from proa.meta.gvk import GVR
from proa.meta.selectors import parse_fields

VERBS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_NAMESPACE_SUBRESOURCES = frozenset({"status", "finalize"})


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """`resource` is None for a path outside the API; then `verb` is the method in lower case. `rest` is what follows
    the subresource (of a proxy). `parameters` holds the first value of each query parameter."""

    path: str
    verb: str
    parameters: Mapping[str, str]
    resource: GVR | None = None
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    rest: str = ""


def is_true(text: str | None) -> bool:
    """Reads a boolean query parameter as upstream does: present is true, except for these words."""
    return text is not None and text.lower() not in ("false", "0")


def integer(text: str) -> int:
    """Reads an integer query parameter; raises the 400 StatusError for what is none, or more than 64 bits hold."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not (digits.isascii() and digits.isdigit()):
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    number = int(text) if len(digits) < 20 else 1 << 64
    if not -(1 << 63) <= number < 1 << 63:
        raise bad_request(f'strconv.ParseInt: parsing "{text}": value out of range')
    return number


def parse_query(query: str) -> dict[str, str]:
    """Returns the first value of each parameter."""
    found: dict[str, str] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        found.setdefault(key, value)
    return found


def parse_request(method: str, target: str) -> RequestInfo:
    """Reads a request line. Raises the 400 StatusError for a path that cannot be read."""
    if target.startswith(("http://", "https://")):  # the absolute form, as clients send it to proxies
        target = "/" + target.split("/", 3)[3] if target.count("/") > 2 else "/"
    raw, _, query = target.partition("?")
    parameters = parse_query(query) if query else {}
    path = unquote(raw) if "%" in raw else raw
    if "\0" in path:
        raise bad_request("the path holds a zero byte")
    parts = path.strip("/").split("/")
    minimum = {"api": 3, "apis": 4}.get(parts[0], 0) if not path.startswith("//") else 0
    if not minimum or len(parts) < minimum:
        return RequestInfo(path, method.lower(), parameters)
    group, version, parts = ("", parts[1], parts[2:]) if parts[0] == "api" else (parts[1], parts[2], parts[3:])
    verb = VERBS.get(method, "")
    if parts[0] == "watch" and len(parts) > 1:
        verb, parts = "watch", parts[1:]
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 2 and parts[2] not in _NAMESPACE_SUBRESOURCES:
        namespace, parts = parts[1], parts[2:]
    name = parts[1] if len(parts) > 1 else ""
    subresource = parts[2] if len(parts) > 2 else ""
    if not name:
        verb = _collection_verb(verb, parameters)
    resource = GVR(group, version, parts[0])
    return RequestInfo(path, verb, parameters, resource, namespace, name, subresource, "/".join(parts[3:]))


def _collection_verb(verb: str, parameters: Mapping[str, str]) -> str:
    if verb == "get":
        return "watch" if is_true(parameters.get("watch")) else "list"
    return "deletecollection" if verb == "delete" else verb


def selected_name(info: RequestInfo) -> str:
    """Returns the name that authorization sees: of a list or watch of one name, that name."""
    if info.name or info.verb not in ("list", "watch", "deletecollection") or "fieldSelector" not in info.parameters:
        return info.name
    try:
        return parse_fields(info.parameters["fieldSelector"]).exact("metadata.name") or ""
    except StatusError:
        return ""
