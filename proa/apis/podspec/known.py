"""Specs of pods that were found to be valid lately: pods of one template differ in one generated name.

Each pod that a workload makes, and each later write of its metadata, would have the same containers, volumes and
tolerations checked again.
"""

from __future__ import annotations

import re

from proa.apis.fields import Errors
from proa.apis.podspec.validate import pod_spec
from proa.meta.codec.json import encode
from proa.meta.metadata import SUFFIX_ALPHABET, SUFFIX_LENGTH
from proa.meta.objects import Obj

TOKEN_VOLUME = "kube-api-access-"

_GENERATED = re.compile(f"{TOKEN_VOLUME}[{SUFFIX_ALPHABET}]{{{SUFFIX_LENGTH}}}")
_KEPT_MAX = 128
_valid: dict[bytes, None] = {}


def pod_spec_errors(spec: Obj) -> Errors:
    """Checks the spec of a pod."""
    form = _form(spec)
    if form in _valid:
        return []
    errors = pod_spec(spec, "spec", is_pod=True)
    if not errors:
        _valid[form] = None
        if len(_valid) > _KEPT_MAX:
            del _valid[next(iter(_valid))]
    return errors


def _form(spec: Obj) -> bytes:
    """Returns what is equal for specs that differ in the name of the token's volume alone: as names go, one is as good
    as another, and every mention of it is replaced by a byte that JSON never holds."""
    form: bytes = encode(spec)
    for volume in spec.get("volumes") or ():
        name = volume.get("name") or ""
        if _GENERATED.fullmatch(name):
            return form.replace(name.encode(), b"\0")
    return form
