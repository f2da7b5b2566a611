"""What is valid in a CustomResourceDefinition, its schemas' inside excepted (see `structural`).

Upstream checks an older form of the object, in which what all versions share stands once at the top: causes name
`spec.validation`, `spec.subresources` and so on unless the versions differ.
"""

from __future__ import annotations

from proa.apis import fields
from proa.apis.admissionregistration.webhooks import client_config
from proa.apis.apiextensions.naming import APPROVED, is_protected
from proa.apis.apiextensions.structural import check_schema
from proa.apis.fields import Errors, problems
from proa.apis.shape import children
from proa.meta import names
from proa.meta.errors import (
    duplicate_field,
    forbidden_field,
    invalid_field,
    required_field,
    too_many_field,
    unsupported_field,
)
from proa.meta.objects import Obj, annotations_of, name_of

_SCOPES = ("Cluster", "Namespaced")
_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
_SELECTABLE_MAX = 8
_KEEP_STORED = (
    "was previously a storage version, and must remain in spec.versions until a storage migration ensures no data "
    "remains persisted in {0} and removes {0} from status.storedVersions"
)


def check_name(definition: Obj) -> Errors:
    """The name is the plural and the group; protected groups need an approval."""
    spec = definition.get("spec") or {}
    group, plural = spec.get("group") or "", (spec.get("names") or {}).get("plural") or ""
    errors: Errors = []
    if name_of(definition) != f"{plural}.{group}":
        detail = 'must be spec.names.plural+"."+spec.group'
        errors.append(invalid_field("metadata.name", name_of(definition), detail))
    approval = annotations_of(definition).get(APPROVED) or ""
    if is_protected(group) and not approval.startswith(("unapproved", "https://", "http://")):
        path = f"metadata.annotations[{APPROVED}]"
        detail = f'protected groups must have approval annotation "{APPROVED}"'
        errors.append(invalid_field(path, approval, detail) if approval else required_field(path, detail))
    return errors


def check_spec(spec: Obj) -> Errors:
    errors = _group(spec.get("group") or "")
    scope = spec.get("scope") or ""
    errors += fields.one_of(scope, "spec.scope", _SCOPES, missing="required")
    errors += _versions(spec)
    if spec.get("preserveUnknownFields"):
        detail = (
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
        )
        errors.append(invalid_field("spec.preserveUnknownFields", True, detail))
    return errors + _names(spec.get("names") or {}, "spec.names") + _conversion(spec.get("conversion") or {})


def _group(group: str) -> Errors:
    if not group:
        return [required_field("spec.group")]
    errors = problems(names.dns1123_subdomain(group), "spec.group", group)
    if not errors and "." not in group:
        errors.append(invalid_field("spec.group", group, "should be a domain with at least one dot"))
    return errors


def _versions(spec: Obj) -> Errors:
    versions = children(spec, "versions")
    errors: Errors = []
    found = [version.get("name") or "" for version in versions]
    for index, (name, version) in enumerate(zip(found, versions, strict=True)):
        path = f"spec.versions[{index}]"
        errors += problems(names.dns1035_label(name), f"{path}.name", name)
        if not index:
            errors += problems(names.dns1035_label(name), "spec.version", name)
        warning = version.get("deprecationWarning")
        if warning is not None and not version.get("deprecated"):
            detail = "can only be set for deprecated versions"
            errors.append(invalid_field(f"{path}.deprecationWarning", warning, detail))
        if (version.get("schema") or {}).get("openAPIV3Schema") is None:
            errors.append(required_field(f"{path}.schema.openAPIV3Schema"))
    if len(set(found)) < len(found):
        errors.append(invalid_field("spec.versions", versions, "must contain unique version names"))
    if sum(bool(version.get("storage")) for version in versions) != 1:
        detail = "must have exactly one version marked as storage version"
        errors.append(invalid_field("spec.versions", versions or None, detail))
    return errors + _contents(versions)


def _contents(versions: list[Obj]) -> Errors:
    errors: Errors = []
    for key, hoisted, own, check in (
        ("schema", "spec.validation", "schema", _schema),
        ("subresources", "spec.subresources", "subresources", _subresources),
        ("additionalPrinterColumns", "spec.additionalPrinterColumns", "additionalPrinterColumns", _columns),
    ):
        for version, path in _each(versions, key, hoisted, own):
            errors += check(version.get(key), path)
    for version, path in _each(versions, "selectableFields", "spec.selectableFields", "selectableFields"):
        schema = (version.get("schema") or {}).get("openAPIV3Schema") or {}
        errors += _selectable(children(version, "selectableFields"), schema, path)
    return errors


def _each(versions: list[Obj], key: str, hoisted: str, own: str) -> list[tuple[Obj, str]]:
    """The versions to check, with where their causes point to: one at the top if all agree."""
    if versions and all(version.get(key) == versions[0].get(key) for version in versions):
        return [(versions[0], hoisted)]
    return [(version, f"spec.versions[{index}].{own}") for index, version in enumerate(versions)]


def _schema(schema: Obj | None, path: str) -> Errors:
    found = (schema or {}).get("openAPIV3Schema")
    return check_schema(found, f"{path}.openAPIV3Schema") if found is not None else []


def _simple_path(text: str, path: str, under: tuple[str, ...]) -> Errors:
    if not text:
        return [required_field(path)]
    if not text.startswith("."):
        return [invalid_field(path, text, "must be a simple json path starting with .")]
    if not text.startswith(tuple(f"{one}." for one in under)):
        return [invalid_field(path, text, f"should be a json path under {' or '.join(under)}")]
    return []


def _subresources(subresources: Obj | None, path: str) -> Errors:
    scale = (subresources or {}).get("scale")
    if scale is None:
        return []
    where = f"{path}.scale"
    errors = _simple_path(scale.get("specReplicasPath") or "", f"{where}.specReplicasPath", (".spec",))
    errors += _simple_path(scale.get("statusReplicasPath") or "", f"{where}.statusReplicasPath", (".status",))
    selector = scale.get("labelSelectorPath") or ""
    return errors + (_simple_path(selector, f"{where}.labelSelectorPath", (".spec", ".status")) if selector else [])


def _columns(columns: list[Obj] | None, path: str) -> Errors:
    errors: Errors = []
    for index, column in enumerate(columns or ()):
        where = f"{path}[{index}]"
        kind, form, route = (column.get(key) or "" for key in ("type", "format", "jsonPath"))
        if not column.get("name"):
            errors.append(required_field(f"{where}.name"))
        if not kind:
            errors.append(required_field(f"{where}.type", f"must be one of {','.join(_COLUMN_TYPES)}"))
        elif kind not in _COLUMN_TYPES:
            errors.append(invalid_field(f"{where}.type", kind, f"must be one of {','.join(_COLUMN_TYPES)}"))
        if form and form not in _COLUMN_FORMATS:
            errors.append(invalid_field(f"{where}.format", form, f"must be one of {','.join(_COLUMN_FORMATS)}"))
        if not route:
            errors.append(required_field(f"{where}.JSONPath"))
        elif not route.startswith("."):
            detail = "must be a simple json path starting with ."
            errors.append(invalid_field(f"{where}.JSONPath", route, detail))
    return errors


def _selectable(selectable: list[Obj], schema: Obj, path: str) -> Errors:
    errors: Errors = []
    seen: set[str] = set()
    for index, one in enumerate(selectable):
        where, route = f"{path}[{index}].jsonPath", one.get("jsonPath") or ""
        if not route:
            errors.append(required_field(where))
            continue
        found: Obj | None = schema
        for part in route.removeprefix(".").split("."):
            found = ((found or {}).get("properties") or {}).get(part)
        if found is None:
            errors.append(invalid_field(where, route, "is an invalid path: does not refer to a valid field"))
        elif found.get("type") not in ("string", "boolean", "integer"):
            detail = "must point to a field of type string, boolean or integer"
            errors.append(invalid_field(where, route, detail))
        if route.startswith(".metadata."):
            errors.append(invalid_field(where, route, "must not point to fields in metadata"))
        if route in seen:
            errors.append(duplicate_field(where, route))
        seen.add(route)
    if len(selectable) > _SELECTABLE_MAX:
        errors.append(too_many_field(path, len(selectable), _SELECTABLE_MAX))
    return errors


def _names(given: Obj, path: str) -> Errors:
    errors: Errors = []
    for key in ("plural", "singular"):
        value = given.get(key) or ""
        found = problems(names.dns1035_label(value), f"{path}.{key}", value)
        errors += found if value else [required_field(f"{path}.{key}")]
    for key in ("kind", "listKind"):
        value = given.get(key) or ""
        bad = [f"may have mixed case, but should otherwise match: {one}" for one in names.dns1035_label(value.lower())]
        errors += problems(bad, f"{path}.{key}", value) if value else [required_field(f"{path}.{key}")]
    if given.get("kind") and given.get("kind") == given.get("listKind"):
        detail = "kind and listKind may not be the same"
        errors.append(invalid_field(f"{path}.listKind", given["listKind"], detail))
    for key in ("shortNames", "categories"):
        for index, value in enumerate(given.get(key) or ()):
            errors += problems(names.dns1035_label(value), f"{path}.{key}[{index}]", value)
    return errors


def _conversion(conversion: Obj) -> Errors:
    strategy, webhook = conversion.get("strategy") or "", conversion.get("webhook")
    path = "spec.conversion"
    if strategy not in ("None", "Webhook"):
        if not strategy:
            return [required_field(f"{path}.strategy")]
        return [unsupported_field(f"{path}.strategy", strategy, ("None", "Webhook"))]
    if strategy == "None":
        if webhook is None:
            return []
        detail = "should not be set when strategy is not set to Webhook"
        return [forbidden_field(f"{path}.webhook", detail)]
    errors: Errors = []
    config = (webhook or {}).get("clientConfig")
    if config is None:
        detail = "required when strategy is set to Webhook"
        errors.append(required_field(f"{path}.webhookClientConfig", detail))
    else:
        errors += client_config(config, f"{path}.webhookClientConfig")
    versions = (webhook or {}).get("conversionReviewVersions") or []
    where = f"{path}.conversionReviewVersions"
    if not versions:
        return [*errors, required_field(where)]
    for index, version in enumerate(versions):
        if version in versions[:index]:
            errors.append(invalid_field(f"{where}[{index}]", version, "duplicate version"))
        errors += problems(names.dns1035_label(version), f"{where}[{index}]", version)
    if not {"v1", "v1beta1"}.intersection(versions):
        errors.append(invalid_field(where, versions, "must include at least one of v1, v1beta1"))
    return errors


def check_stored_versions(definition: Obj) -> Errors:
    """Every version that objects were stored in must still exist, the present one among them."""
    stored = (definition.get("status") or {}).get("storedVersions") or []
    versions = children(definition.get("spec"), "versions")
    path = "status.storedVersions"
    if not stored:
        return [invalid_field(path, None, "must have at least one stored version")]
    errors: Errors = []
    known = [version.get("name") for version in versions]
    for index, name in enumerate(stored):
        if name not in known:
            detail = f"missing from spec.versions; {name} {_KEEP_STORED.format(name)}"
            errors.append(invalid_field(f"{path}[{index}]", name, detail))
    for version in versions:
        if version.get("storage") and version.get("name") not in stored:
            detail = f"must have the storage version {version.get('name')}"
            errors.append(invalid_field(path, stored, detail))
    return errors
