"""From a CustomResourceDefinition to the resources it makes: a ResourceDef per served version, as for built-in ones.

Objects are stored in the definition's storage version; how its other versions relate to that is `forms`' part.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import msgspec

from proa.apis import tables
from proa.apis.apiextensions import acceptance, embedded, json_path, structural, values
from proa.apis.apiextensions.forms import Form, SchemaOf
from proa.apis.apiextensions.naming import TERMINATING, is_true
from proa.apis.define import READ_WRITE, SCALE
from proa.apis.fields import Errors
from proa.apis.registry import Column, ResourceDef, StatusStrategy, Strategy, Subresource
from proa.apis.shape import children, keep_status
from proa.meta.errors import FieldError, invalid_field
from proa.meta.gvk import GVK
from proa.meta.objects import Obj, metadata, name_of

if TYPE_CHECKING:
    from proa.apis.apiextensions.rules import Rules

# In upstream's order for custom resources.
VERBS = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")
_INT32_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class ScalePaths:
    """Where the scale subresource finds its numbers, as dotted paths such as `.spec.replicas`."""

    spec: str
    status: str
    selector: str = ""


class CustomResourceStrategy(Strategy):
    """One version of a custom resource. `schema` is its structural schema, or makes it; `scale` the scale subresource's
    paths."""

    allow_unconditional_update = False
    generation = True

    def __init__(
        self,
        kind: GVK,
        schema: Obj | SchemaOf,
        *,
        status: bool,
        scale: ScalePaths | None = None,
        selectable: Sequence[str] = (),
        list_kind: str = "",
        fingerprint: Callable[[], bytes] | None = None,
    ) -> None:
        self.kind = kind
        self.list_kind = list_kind or f"{kind.kind}List"
        self._schema = schema
        self._fingerprint = fingerprint
        self.has_status = status
        self.scale = scale
        self.selectable = tuple(selectable)
        self.field_labels = tuple(path.removeprefix(".") for path in selectable)
        self._said: list[str] = []

    @cached_property
    def schema(self) -> Obj:
        """The structural schema, made when it is first needed."""
        return self._schema() if callable(self._schema) else self._schema

    @cached_property
    def has_embedded(self) -> bool:
        """Tells whether objects have resources inside."""
        return embedded.has_embedded(self.schema)

    def read_schema(self) -> Obj:
        """Returns the structural schema without keeping it, if it was not needed before."""
        return self.schema if "schema" in self.__dict__ or not callable(self._schema) else self._schema()

    @cached_property
    def fingerprint(self) -> bytes:
        """Changes with what is published about this version."""
        return self._fingerprint() if self._fingerprint else b""

    def prune(self, obj: Obj) -> list[str]:
        """Removes unknown fields, in place; returns their paths. Comes before `default`."""
        return values.prune(obj, self.schema)

    def default(self, obj: Obj) -> None:
        values.default(obj, self.schema)

    def prepare_create(self, obj: Obj) -> None:
        if self.has_status:
            obj.pop("status", None)

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        if self.has_status:
            keep_status(obj, old)

    def specification(self, obj: Obj) -> Any:
        ignored = ("metadata", "status") if self.has_status else ("metadata",)
        return {key: value for key, value in obj.items() if key not in ignored}

    def validate(self, obj: Obj) -> Errors:
        return self._validate(obj, None)

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        return self._validate(obj, old)

    def _validate(self, obj: Obj, old: Obj | None) -> Errors:
        found = [] if self._accepts(obj) else values.validate(obj, self.schema, old=old)
        errors = _type_meta(obj, self.kind) + found + self._scale(obj)
        return errors + self.check_rules(obj, old, errors)

    def check_rules(self, obj: Obj, old: Obj | None, errors: Errors) -> Errors:
        """Asks the CEL rules; what they say about values that did not change is for `warnings`."""
        if self._rules is None:
            return []
        found, self._said = self._rules.validate(obj, old, errors)
        return found

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        """Returns what the last validation let pass: the store asks right after it."""
        said, self._said = self._said, []
        return said

    @cached_property
    def _accepts(self) -> Callable[[Any], bool]:
        return acceptance.compiled(self.schema)

    @cached_property
    def _accepts_status(self) -> Callable[[Any], bool]:
        return acceptance.compiled((self.schema.get("properties") or {}).get("status") or {}, root=False)

    @cached_property
    def _rules(self) -> Rules | None:
        if not any(schema.get(structural.RULES) for _, _, schema in structural.walk(self.schema, "")):
            return None
        from proa.apis.apiextensions.rules import Rules  # only where there are expressions

        return Rules(self.schema)

    def validate_status(self, obj: Obj, old: Obj) -> Errors:
        errors = _type_meta(obj, self.kind) + self._status(obj, old) + self._scale(obj)
        return errors + self.check_rules(obj, old, errors)

    def _status(self, obj: Obj, old: Obj) -> Errors:
        schema = (self.schema.get("properties") or {}).get("status")
        if not schema or "status" not in obj or self._accepts_status(obj["status"]):
            return []
        return values.validate(obj["status"], schema, "status", old.get("status"))

    def selectable_fields(self, obj: Obj) -> Mapping[str, str]:
        return {path.removeprefix("."): _text(json_path.find(path, obj)) for path in self.selectable}

    def _scale(self, obj: Obj) -> Errors:
        if self.scale is None:
            return []
        errors: Errors = []
        for path in (self.scale.spec, self.scale.status):
            found = json_path.find(path, obj)
            if not found or found[0] is None:
                continue
            value = found[0]
            if type(value) is not int:
                detail = f"{path} accessor error: {value} is of the type {values.type_of(value)}, expected int64"
                errors.append(invalid_field(path, 0, detail))
            elif value < 0:
                errors.append(invalid_field(path, value, "should be a non-negative integer"))
            elif value > _INT32_MAX:
                errors.append(invalid_field(path, value, f"should be less than or equal to {_INT32_MAX}"))
        selector = json_path.find(self.scale.selector, obj) if self.scale.selector else []
        if selector and not isinstance(selector[0], str):
            errors.append(invalid_field(self.scale.selector, "", "accessor error: expected string"))
        return errors


def _type_meta(obj: Obj, kind: GVK) -> Errors:
    errors: list[FieldError] = []
    if obj.get("kind") != kind.kind:
        errors.append(invalid_field("kind", obj.get("kind"), f"must be {kind.kind}"))
    if obj.get("apiVersion") != kind.api_version:
        errors.append(invalid_field("apiVersion", obj.get("apiVersion"), f"must be {kind.api_version}"))
    return errors


class CustomStatusStrategy(StatusStrategy):
    """The status subresource: everything but the status stays, metadata too."""

    main: CustomResourceStrategy

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        fresh = {"status": obj["status"]} if "status" in obj else {}
        kept = {key: value for key, value in old.items() if key != "status"}
        kept["metadata"] = dict(metadata(old))
        for key in ("resourceVersion", "managedFields"):
            if key in metadata(obj):
                kept["metadata"][key] = metadata(obj)[key]
        for key in ("apiVersion", "kind"):
            kept[key] = obj.get(key)
        obj.clear()
        obj.update(kept | fresh)

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        return self.main.validate_status(obj, old)

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        return self.main.warnings(obj, old)


# ---------------------------------------------------------------- tables


def _text(found: Sequence[Any]) -> str:
    if not found or found[0] is None:
        return ""
    value = found[0]
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _cell(kind: str, found: list[Any], now: datetime) -> Any:
    """Returns the first value found if it is of the column's type, else null."""
    if not found or found[0] is None:
        return None
    value = found[0]
    if kind == "integer":
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return int(value) if is_number else None
    if kind == "number":
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    if kind == "date":
        return tables.since(value, now) if isinstance(value, str) else None
    return " ".join(_text([one]) for one in found)


def _columns(version: Obj) -> tuple[tuple[Column, ...], Callable[[Obj, datetime], Sequence[Any]]]:
    given = children(version, "additionalPrinterColumns") or [
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
    ]
    shown = [
        Column(
            one.get("name", ""),
            one.get("type", "string"),
            one.get("format") or "",
            one.get("priority") or 0,
            one.get("description") or "",
        )
        for one in given
    ]
    paths = [(one.get("type", "string"), one.get("jsonPath", "")) for one in given]

    def cells(obj: Obj, now: datetime) -> Sequence[Any]:
        return name_of(obj), *(_cell(kind, json_path.find(path, obj), now) for kind, path in paths)

    return (Column("Name", format="name"), *shown), cells


# ---------------------------------------------------------------- definitions


def storage_version(definition: Obj) -> Obj:
    """Returns the version that objects are stored in."""
    return next(one for one in children(definition.get("spec"), "versions") if one.get("storage"))


def schema_of(version: Obj) -> Obj:
    """Returns a version's structural schema; what came undecoded (`msgspec.Raw`) is decoded for this call."""
    schema = version.get("schema") or {}
    if isinstance(schema, msgspec.Raw):
        schema = msgspec.json.decode(schema) or {}
    found: Obj = schema.get("openAPIV3Schema") or {}
    return found


def storage_version_hash(group: str, version: str, kind: str) -> str:
    """Returns the hash that discovery shows for the stored form."""
    return base64.b64encode(hashlib.sha256(f"{group}/{version}/{kind}".encode()).digest()[:8]).decode()


def resources_of(definition: Obj, *, unserved: bool = False) -> list[ResourceDef]:
    """Returns the resources that a definition makes: one for each served version (`unserved`: for every one).

    Names are the accepted ones; call it for definitions whose names were accepted only. Schemas that are not decoded
    yet stay so until somebody needs them.
    """
    spec = definition["spec"]
    versions = children(spec, "versions")
    strategies = {f"{spec['group']}/{one['name']}": _strategy(definition, one) for one in versions}
    return [_resource(definition, one, strategies) for one in versions if unserved or one["served"]]


def _names(definition: Obj) -> Obj:
    accepted: Obj = (definition.get("status") or {}).get("acceptedNames") or {}
    return accepted if accepted.get("plural") else definition["spec"]["names"]


def _strategy(definition: Obj, version: Obj) -> CustomResourceStrategy:
    names = _names(definition)
    subresources = version.get("subresources") or {}
    scale = subresources.get("scale")
    paths = scale and ScalePaths(
        scale["specReplicasPath"], scale["statusReplicasPath"], scale.get("labelSelectorPath") or ""
    )
    return CustomResourceStrategy(
        GVK(definition["spec"]["group"], version["name"], names["kind"]),
        lambda: schema_of(version),
        status=subresources.get("status") is not None,
        scale=paths,
        selectable=[one["jsonPath"] for one in children(version, "selectableFields")],
        list_kind=names.get("listKind") or "",
        fingerprint=lambda: _fingerprint(definition["spec"]["scope"], names, version),
    )


def _fingerprint(scope: str, names: Obj, version: Obj) -> bytes:
    schema = version.get("schema") or {}
    encoded = bytes(schema) if isinstance(schema, msgspec.Raw) else msgspec.json.encode(schema)
    rest = msgspec.json.encode([scope, names, version["name"], version.get("subresources")], order="deterministic")
    return hashlib.sha256(encoded + rest).digest()


def _form(definition: Obj, version: Obj, strategies: Mapping[str, CustomResourceStrategy]) -> Form:
    spec = definition["spec"]
    conversion = spec.get("conversion") or {}
    webhook = conversion.get("webhook") if conversion.get("strategy") == "Webhook" else None
    schemas = {api_version: partial(getattr, one, "schema") for api_version, one in strategies.items()}
    group = spec["group"]
    return Form(f"{group}/{version['name']}", f"{group}/{storage_version(definition)['name']}", schemas, webhook)


def _resource(definition: Obj, version: Obj, strategies: Mapping[str, CustomResourceStrategy]) -> ResourceDef:
    from proa.meta.schema.custom_openapi import definition_name  # only where there are custom resources

    spec, names = definition["spec"], _names(definition)
    strategy = strategies[f"{spec['group']}/{version['name']}"]
    kind = strategy.kind
    subs = []
    if strategy.has_status:
        subs.append(Subresource(name="status", verbs=READ_WRITE, kind=kind, strategy=CustomStatusStrategy(strategy)))
    if strategy.scale:
        subs.append(Subresource(name="scale", verbs=READ_WRITE, kind=SCALE))
    columns, cells = _columns(version)
    terminating = is_true((definition.get("status") or {}).get("conditions") or (), TERMINATING)
    return ResourceDef(
        group=kind.group,
        version=kind.version,
        kind=kind.kind,
        plural=names["plural"],
        singular=names.get("singular") or kind.kind.lower(),
        namespaced=spec["scope"] == "Namespaced",
        verbs=VERBS,
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        subresources=tuple(subs),
        strategy=strategy,
        columns=columns,
        cells=cells,
        schema=definition_name(kind),
        custom=True,
        storage=f"{kind.group}/{names['plural']}",
        form=_form(definition, version, strategies),
        closed="create not allowed while custom resource definition is terminating" if terminating else "",
        storage_version_hash=storage_version_hash(kind.group, storage_version(definition)["name"], kind.kind),
        deprecation=deprecation_warning(definition, version["name"]),
    )


def deprecation_warning(definition: Obj, version: str) -> str:
    """Returns the Warning that every use of a deprecated version gets, or an empty text."""
    spec = definition["spec"]
    for one in children(spec, "versions"):
        if one["name"] == version and one.get("deprecated"):
            said: str | None = one.get("deprecationWarning")
            return said or f"{spec['group']}/{version} {spec['names']['kind']} is deprecated"
    return ""


def published(resources: Iterable[ResourceDef], *, v3: bool) -> dict[str, Obj]:
    """Returns the OpenAPI definitions of the custom ones among the resources, by name; no schema stays decoded."""
    from proa.meta.schema.custom_openapi import custom_definitions  # needed only when documents are asked for
    from proa.meta.schema.openapi import V2, V3

    made: dict[str, Obj] = {}
    for one in resources:
        strategy = one.strategy
        if isinstance(strategy, CustomResourceStrategy):
            schema = strategy.read_schema()
            prefix = V3 if v3 else V2
            made |= custom_definitions(strategy.kind, strategy.list_kind, one.plural, schema, prefix, v3=v3)
    return made
