"""ConversionReview: what a conversion webhook is asked, and what of its answer counts.

Follows upstream's webhook converter: every object must come back, in order, in the wanted version, as the same kind,
name, namespace and uid; of its metadata only labels and annotations may differ, and what else the webhook says of
metadata is put back. Pure; the API server sends it (`proa.apiserver.crd.conversion`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proa.meta.metadata import validate_annotations, validate_labels
from proa.meta.objects import Obj

_GROUP = "apiextensions.k8s.io"
REVIEW_VERSIONS = ("v1", "v1beta1")
_CHANGEABLE = ("labels", "annotations")


class ConversionFailed(ValueError):
    """A webhook did not convert; the text says why, without whose conversion it was."""


def review_version(webhook: Obj) -> str:
    """Returns the version of ConversionReview to speak: the first in the definition's list that is known here."""
    for version in webhook.get("conversionReviewVersions") or ():
        if version in REVIEW_VERSIONS:
            return str(version)
    raise ConversionFailed("the definition names no version of ConversionReview that this server knows")


def review_of(objects: Sequence[Obj], api_version: str, uid: str, version: str) -> Obj:
    """Returns the ConversionReview that asks for these objects in another version."""
    request = {"uid": uid, "desiredAPIVersion": api_version, "objects": list(objects)}
    return {"kind": "ConversionReview", "apiVersion": f"{_GROUP}/{version}", "request": request}


def converted_objects(answer: Any, originals: Sequence[Obj], api_version: str, uid: str, version: str) -> list[Obj]:
    """Returns the objects of a webhook's decoded answer, with their metadata restored; raises ConversionFailed."""
    objects = _answered(answer, uid, version)
    kind = originals[0].get("kind")
    stated = originals[0].get("apiVersion")
    if len(objects) != len(originals):
        raise ConversionFailed(
            f"conversion webhook for {stated}, Kind={kind} returned {len(objects)} objects, expected {len(originals)}"
        )
    made = []
    for index, (original, one) in enumerate(zip(originals, objects, strict=True)):
        where = f"conversion webhook for {stated}, Kind={kind} returned invalid"
        problem = _mismatch(original, one, api_version)
        if problem:
            raise ConversionFailed(f"{where} converted object at index {index}: {problem}")
        try:
            made.append({**one, "metadata": _restored(original, one)})
        except ConversionFailed as error:
            raise ConversionFailed(f"{where} metadata in object at index {index}: {error}") from None
    return made


def _answered(answer: Any, uid: str, version: str) -> list[Any]:
    """Returns the objects in an answer that is one to our question."""
    answer = answer if isinstance(answer, dict) else {}
    stated = answer.get("apiVersion"), answer.get("kind")
    if stated != (f"{_GROUP}/{version}", "ConversionReview"):
        raise ConversionFailed(
            f"expected webhook response of {_GROUP}/{version}, Kind=ConversionReview, got {stated[0]}, Kind={stated[1]}"
        )
    response = answer.get("response")
    if not isinstance(response, dict):
        raise ConversionFailed("no response provided")
    if response.get("uid") != uid:
        raise ConversionFailed(f'expected response.uid="{uid}", got "{response.get("uid")}"')
    result = response.get("result")
    result = result if isinstance(result, dict) else {}
    if result.get("status") != "Success":
        raise ConversionFailed(
            str(result.get("message") or f"response.result.status was '{result.get('status') or ''}', not 'Success'")
        )
    objects = response.get("convertedObjects")
    return objects if isinstance(objects, list) else []


def _mismatch(original: Obj, one: Any, api_version: str) -> str:
    """Returns what makes an object something else than the original in the wanted version, or nothing."""
    if not isinstance(one, dict):
        return "it is no object"
    if one.get("apiVersion") != api_version:
        return f"invalid groupVersion (expected {api_version}, received {one.get('apiVersion')})"
    if one.get("kind") != original.get("kind"):
        return f"invalid kind (expected {original.get('kind')}, received {one.get('kind')})"
    meta, was = one.get("metadata"), original.get("metadata") or {}
    if not isinstance(meta, dict):
        return "missing metadata in converted object" if meta is None else "metadata is not an object"
    for key, shown in (("name", "name"), ("namespace", "namespace"), ("uid", "UID")):
        if (meta.get(key) or "") != (was.get(key) or ""):
            return f"must have the same {shown}: {was.get(key) or ''} != {meta.get(key) or ''}"
    return ""


def _restored(original: Obj, one: Obj) -> Obj:
    """Returns the original's metadata with the labels and annotations of the converted object."""
    meta: Obj = dict(original.get("metadata") or {})
    for key in _CHANGEABLE:
        given = one["metadata"].get(key)
        if given is None:
            meta.pop(key, None)
            continue
        if not isinstance(given, dict):
            raise ConversionFailed(f"invalid metadata.{key} of type {type(given).__name__} in converted object")
        for name, value in given.items():
            if not isinstance(value, str):
                raise ConversionFailed(f"metadata.{key}[{name}] must be a string")
        if given != (meta.get(key) or {}):
            check = validate_labels if key == "labels" else validate_annotations
            errors = check(given, f"metadata.{key}")
            if errors:
                raise ConversionFailed(", ".join(str(error) for error in errors))
        meta[key] = given
    return meta
