"""Secret: types and what they demand, stringData, immutability. Follows upstream's `pkg/registry/core/secret`."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from proa.apis.core.data import keys_and_size, unchanged_if_immutable
from proa.apis.define import columns, resource
from proa.apis.fields import Errors, immutable
from proa.apis.registry import Strategy
from proa.apis.tables import age
from proa.meta.errors import invalid_field, required_field
from proa.meta.objects import Obj, annotations_of, name_of

# By type, the keys that must be there.
_REQUIRED_KEYS = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}
_JSON_KEYS = {"kubernetes.io/dockercfg": ".dockercfg", "kubernetes.io/dockerconfigjson": ".dockerconfigjson"}
_ACCOUNT = "kubernetes.io/service-account.name"


class SecretStrategy(Strategy):
    field_labels = ("type",)

    def default(self, obj: Obj) -> None:
        if not obj.get("type"):
            obj["type"] = "Opaque"
        texts = obj.pop("stringData", None)
        if texts:
            data = obj.get("data") or {}
            encoded = {key: base64.b64encode((value or "").encode()).decode() for key, value in texts.items()}
            obj["data"] = {**data, **encoded}

    def validate(self, obj: Obj) -> Errors:
        data, kind = obj.get("data") or {}, obj.get("type") or ""
        errors = keys_and_size({"data": data}, obj)
        if kind == "kubernetes.io/service-account-token" and not annotations_of(obj).get(_ACCOUNT):
            errors.append(required_field(f"metadata.annotations[{_ACCOUNT}]"))
        if kind == "kubernetes.io/basic-auth" and not {"username", "password"} & set(data):
            errors += [required_field(f"data[{key}]") for key in ("username", "password")]
        errors += [required_field(f"data[{key}]") for key in _REQUIRED_KEYS.get(kind, ()) if key not in data]
        return errors + _json(data, _JSON_KEYS.get(kind))

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        errors = immutable(obj.get("type"), old.get("type"), "type")
        return errors + unchanged_if_immutable(obj, old, ("data",)) + self.validate(obj)

    def selectable_fields(self, obj: Obj) -> Mapping[str, str]:
        return {"type": obj.get("type") or ""}


def _json(data: Mapping[str, str], key: str | None) -> Errors:
    if key is None or key not in data:
        return []
    try:
        if isinstance(msgspec.json.decode(base64.b64decode(data[key])), dict):
            return []
        problem = "json: cannot unmarshal into Go value of type map[string]interface {}"
    except (msgspec.DecodeError, binascii.Error, UnicodeDecodeError) as error:
        problem = str(error)
    return [invalid_field(f"data[{key}]", "<secret contents redacted>", problem)]


def _cells(obj: Obj, now: datetime) -> list[Any]:
    return [name_of(obj), obj.get("type") or "", len(obj.get("data") or {}), age(obj, now)]


SECRET = resource(
    "",
    "v1",
    "Secret",
    "secrets",
    columns=columns("Name", "Type", "Data", "Age"),
    cells=_cells,
    strategy=SecretStrategy(),
    storage_version_hash="S6u1pOWzb84=",
)
