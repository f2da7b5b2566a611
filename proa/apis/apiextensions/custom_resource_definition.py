"""CustomResourceDefinition, as of apiextensions.k8s.io/v1: a resource made at run time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from proa.apis import fields
from proa.apis.admissionregistration.webhooks import default_client_config
from proa.apis.apiextensions.definition_rules import check_name, check_spec, check_stored_versions
from proa.apis.apiextensions.naming import CLEANUP, is_established
from proa.apis.apiextensions.structural import unknown_formats
from proa.apis.define import columns, resource
from proa.apis.fields import Errors
from proa.apis.registry import StatusStrategy, Strategy
from proa.apis.shape import child, children, drop_zero, keep_status, null_if_empty
from proa.meta.objects import Obj, copy_object, metadata, name_of

# Parts of a schema that vanish when empty; an empty map or list means nothing there.
_OPTIONAL = ("required", "properties", "enum", "allOf", "anyOf", "oneOf", "x-kubernetes-list-map-keys")
_OPTIONAL_SCALARS = (
    "uniqueItems",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "nullable",
    "description",
    "title",
    "format",
)
_SUBSCHEMAS = ("items", "not", "additionalProperties")
_SUBSCHEMA_LISTS = ("allOf", "anyOf", "oneOf")


def _tidy_schema(schema: Obj) -> None:
    drop_zero(schema, *_OPTIONAL, *_OPTIONAL_SCALARS)
    drop_zero(schema, "x-kubernetes-validations", "x-kubernetes-embedded-resource", "x-kubernetes-int-or-string")
    for one in (schema.get("properties") or {}).values():
        _tidy_schema(one)
    for key in _SUBSCHEMAS:
        if isinstance(schema.get(key), dict):
            _tidy_schema(schema[key])
    for key in _SUBSCHEMA_LISTS:
        for one in schema.get(key) or ():
            _tidy_schema(one)


class CustomResourceDefinitionStrategy(Strategy):
    generation = True
    deletion_finalizers = (CLEANUP,)

    def default(self, obj: Obj) -> None:
        spec = child(obj, "spec")
        names = child(spec, "names")
        drop_zero(names, "shortNames", "categories")
        kind = names.get("kind") or ""
        if kind and not names.get("singular"):
            names["singular"] = kind.lower()
        if kind and not names.get("listKind"):
            names["listKind"] = f"{kind}List"
        drop_zero(spec, "preserveUnknownFields")
        conversion = child(spec, "conversion")
        conversion["strategy"] = conversion.get("strategy") or "None"
        config = (conversion.get("webhook") or {}).get("clientConfig")
        if config is not None:
            default_client_config(config)
        for version in children(spec, "versions"):
            version.setdefault("served", False)
            version.setdefault("storage", False)
            drop_zero(version, "deprecated", "additionalPrinterColumns", "selectableFields")
            schema = (version.get("schema") or {}).get("openAPIV3Schema")
            if schema is not None:
                _tidy_schema(schema)

    def prepare_create(self, obj: Obj) -> None:
        stored = [one["name"] for one in children(obj["spec"], "versions") if one.get("storage") and one.get("name")]
        obj["status"] = {"conditions": None, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": stored[:1]}
        null_if_empty(obj["status"], "storedVersions")

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        keep_status(obj, old)
        status = obj["status"] = copy_object(obj.get("status") or {})
        stored = status.get("storedVersions") or []
        new = [
            one["name"]
            for one in children(obj["spec"], "versions")
            if one.get("storage") and one.get("name") and one["name"] not in stored
        ]
        status["storedVersions"] = [*stored, *new] or None

    def validate(self, obj: Obj) -> Errors:
        return check_name(obj) + check_spec(obj.get("spec") or {}) + check_stored_versions(obj)

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        spec, before = obj.get("spec") or {}, old.get("spec") or {}
        errors = check_spec(spec)
        names = (one.get("names") or {} for one in (spec, before))
        new, was = names
        if is_established(old):
            errors += fields.immutable(spec.get("scope"), before.get("scope"), "spec.scope")
            errors += fields.immutable(new.get("kind"), was.get("kind"), "spec.names.kind")
        errors += fields.immutable(spec.get("group"), before.get("group"), "spec.group")
        errors += fields.immutable(new.get("plural"), was.get("plural"), "spec.names.plural")
        return errors + check_stored_versions(obj)

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        found = [
            warning
            for version in children(obj.get("spec"), "versions")
            for warning in unknown_formats((version.get("schema") or {}).get("openAPIV3Schema") or {})
        ]
        return list(dict.fromkeys(found))


class CustomResourceDefinitionStatusStrategy(StatusStrategy):
    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        return check_stored_versions(obj)


def cells(obj: Obj, now: datetime) -> Sequence[Any]:
    return name_of(obj), metadata(obj).get("creationTimestamp")


_STRATEGY = CustomResourceDefinitionStrategy()

CUSTOM_RESOURCE_DEFINITION = resource(
    "apiextensions.k8s.io",
    "v1",
    "CustomResourceDefinition",
    "customresourcedefinitions",
    columns=columns("Name", "Created At:date"),
    cells=cells,
    strategy=_STRATEGY,
    namespaced=False,
    short_names=("crd", "crds"),
    categories=("api-extensions",),
    status=CustomResourceDefinitionStatusStrategy(_STRATEGY),
    storage_version_hash="jfWCUB31mvA=",
)
