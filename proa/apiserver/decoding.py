"""Request bodies to objects: media type, size, shape, kind; unknown and duplicate fields as fieldValidation asks.

Follows upstream's `endpoints/handlers` (create, update, patch, delete decode alike): a body that is no object at all
is 400, and so is a kind that does not belong to the path.
"""

from __future__ import annotations

from typing import Any

from proa.apis.registry import ResourceDef
from proa.apiserver.negotiation import JSON, PROTOBUF, body_type, unsupported_media_type
from proa.client.interface import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH
from proa.meta.codec import json as json_codec
from proa.meta.codec.json import Malformed
from proa.meta.errors import StatusError, bad_request, timeout
from proa.meta.gvk import GVK, split_api_version
from proa.meta.objects import Obj
from proa.meta.schema import decode as schema
from proa.wire.http import BodyTooLarge, BodyTooSlow, Request

BODY_BYTES_MAX = 3 << 20
PATCH_TYPES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)


async def read_body(request: Request) -> bytes:
    """Returns the whole body; raises StatusErrors 413, and 504 for one that does not arrive in time."""
    try:
        return await request.body.read(BODY_BYTES_MAX)
    except BodyTooLarge:
        message = f"Request entity too large: limit is {BODY_BYTES_MAX}"
        raise StatusError(413, "RequestEntityTooLarge", message) from None
    except BodyTooSlow:
        raise timeout("request did not complete within the allotted timeout") from None


def parse_body(media_type: str, body: bytes, expected: GVK) -> tuple[Any, list[str]]:
    """Decodes a body, which should be of the `expected` kind; returns it with what is duplicate in it. Raises the 400
    StatusError."""
    try:
        if media_type == JSON:
            return json_codec.parse_strictly(body)
        if media_type == PROTOBUF:
            from proa.apiserver.encoding import protobuf

            return protobuf().decode(body, expected), []
        from proa.meta.codec import yaml  # slow to import, as is the above

        return yaml.parse_strictly(body)
    except Malformed as problem:
        text = f"couldn't get version/kind; json parse error: {problem}" if media_type == JSON else problem
        raise json_codec.unrecognized(expected.kind, body, text) from None


def decode_object(content_type: str, body: bytes, expected: GVK, *, custom: bool = False) -> tuple[Obj, list[str]]:
    """Decodes the body of a create or update as this kind; raises StatusErrors 400 and 415."""
    value, duplicates = parse_body(body_type(content_type), body, expected)
    if value is None:
        value = {}
    if not isinstance(value, dict):
        what = {list: "array", str: "string", bool: "bool"}.get(type(value), "number")
        text = (
            f"couldn't get version/kind; json parse error: json: cannot unmarshal {what} into Go value of type struct"
        )
        raise json_codec.unrecognized(expected.kind, body, text)
    if custom:
        _check_custom(value, expected, body)
    else:
        check_kind(value, expected)
    return value, duplicates


def _check_custom(obj: Obj, expected: GVK, body: bytes) -> None:
    """Raises the 400 StatusError unless a custom resource says what it is."""
    for key, title in (("kind", "Kind"), ("apiVersion", "APIVersion")):
        if not isinstance(obj.get(key), str) or not obj[key]:
            problem = f"Object '{title}' is missing in '{body.decode(errors='replace')}'"
            raise json_codec.unrecognized(expected.kind, body, problem)


def check_version(obj: Obj, expected: GVK) -> None:
    """Raises the 400 StatusError for a custom resource of another version; comes after warnings about its fields."""
    if obj["apiVersion"] != expected.api_version:
        raise bad_request(
            f"the API version in the data ({obj['apiVersion']}) does not match the expected API version "
            f"({expected.api_version})"
        )


# Older versions of a kind, without a resource of their own, that are read as the newer one.
_SAME_FORM = {GVK("policy", "v1beta1", "Eviction"): GVK("policy", "v1", "Eviction")}


def check_kind(obj: Obj, expected: GVK) -> None:
    """Raises the 400 StatusError if an object says that it is something else; fills in what it does not say."""
    api_version, kind = obj.get("apiVersion"), obj.get("kind")
    for key, stated in (("apiVersion", api_version), ("kind", kind)):
        if stated is not None and not isinstance(stated, str):
            what = {dict: "object", list: "array", bool: "bool"}.get(type(stated), "number")
            raise bad_request(f"couldn't get version/kind; json parse error: cannot unmarshal {what} into {key}")
    api_version, kind = api_version or expected.api_version, kind or expected.kind
    try:
        group, version = split_api_version(api_version)
    except ValueError as error:
        raise bad_request(str(error)) from None
    stated_kind = GVK(group, version, kind)
    if stated_kind != expected and _SAME_FORM.get(stated_kind) != expected:
        raise bad_request(
            f'{kind} in version "{version}" cannot be handled as a {expected.kind}: '
            f"the API version in the data ({api_version}) and kind ({kind}) do not match the expected "
            f"({expected.api_version}, {expected.kind})"
        )
    obj["apiVersion"], obj["kind"] = api_version, kind
    meta = obj.get("metadata")
    if meta is None:
        obj["metadata"] = {}
    elif not isinstance(meta, dict):
        raise bad_request(f'{kind} in version "{version}" cannot be handled as a {kind}: metadata is not an object')


def patch_type(content_type: str) -> str:
    """Returns the patch type that a Content-Type names; raises the 415 StatusError."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in PATCH_TYPES:
        raise StatusError(415, "UnsupportedMediaType", "415: Unsupported Media Type", {})
    return media_type


def decode_delete_options(content_type: str, body: bytes) -> Obj | None:
    """Decodes DeleteOptions; None if there is no body. Raises StatusErrors 400 and 415."""
    if not body:
        return None
    media_type = body_type(content_type)
    try:
        if media_type == JSON:
            value: Any = json_codec.parse_strictly(body)[0]
        elif media_type == PROTOBUF:
            from proa.apiserver.encoding import protobuf

            value = protobuf().decode(body, GVK("", "v1", "DeleteOptions"))
        else:
            from proa.meta.codec import yaml

            value = yaml.parse_strictly(body)[0]
    except Malformed as problem:
        raise bad_request(f"couldn't get version/kind; json parse error: {problem}") from None
    if value is None:
        return None
    if not isinstance(value, dict):
        raise bad_request("couldn't get version/kind; json parse error: DeleteOptions must be an object")
    try:
        value, _ = schema.decode(_DELETE_OPTIONS, value)
    except schema.Mistyped as problem:
        raise bad_request(str(problem)) from None
    kind, version = value.get("kind") or "DeleteOptions", value.get("apiVersion") or "v1"
    try:
        split_api_version(version)
    except ValueError as problem:
        raise bad_request(str(problem)) from None
    if kind != "DeleteOptions":
        raise bad_request(f'no kind "{kind}" is registered for version "{version}" in scheme')
    return value  # type: ignore[no-any-return]


_DELETE_OPTIONS = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"


def expected_kind(resource: ResourceDef, subresource: str) -> GVK:
    """Returns the kind that a write to a resource or one of its subresources carries."""
    sub = resource.subresource(subresource) if subresource else None
    return sub.kind if sub is not None else resource.gvk


__all__ = ["PATCH_TYPES", "decode_delete_options", "decode_object", "unsupported_media_type"]
