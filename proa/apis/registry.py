"""What a resource is: one `ResourceDef` each, read by server, discovery, OpenAPI, clients, RBAC and tests.

`RESOURCES` is the one list of built-in resources, in discovery order. A custom resource is the same ResourceDef, made
at run time. A strategy says what is particular about a resource, and is pure; CRUD exists once, in the generic store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from proa.meta.errors import FieldError
from proa.meta.gvk import GVK, GVR
from proa.meta.objects import Obj

if TYPE_CHECKING:
    from proa.apis.apiextensions.forms import Form

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the Table form; `priority` above 0 shows with `-o wide` only."""

    name: str
    type: str = "string"
    format: str = ""
    priority: int = 0
    description: str = ""


@dataclass(frozen=True, slots=True)
class Requestor:
    """Who makes a request, for the kinds that keep it in the object."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


_NOT_SPECIFIED = frozenset({"apiVersion", "kind", "metadata", "status"})


class Strategy:
    """What is particular about a resource. Pure: no I/O, no clock. Override what differs.

    The generic store calls, on create: `default`, `prepare_create`, (admission), `validate`; on update: `default`,
    `prepare_update`, (admission), `validate_update`. `default` and the `prepare_*` methods change `obj`, which is the
    caller's own fresh copy, in place; `old` objects are never changed.
    """

    allow_create_on_update = False
    allow_unconditional_update = True
    generation = False  # keep metadata.generation: 1 at creation, +1 when anything but metadata or status changes

    def default(self, obj: Obj) -> None:
        """Fills in upstream's defaults."""

    def prepare_create(self, obj: Obj) -> None:
        """Resets what a creator may not set (status, for example). Name, uid and creationTimestamp are set already."""

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        """Carries over what an update of the main resource may not change (status, for example)."""

    def specification(self, obj: Obj) -> Any:
        """Returns the part of an object whose changes its generation counts."""
        return {key: value for key, value in obj.items() if key not in _NOT_SPECIFIED}

    def stamp(self, obj: Obj, old: Obj | None, now: str, requestor: Requestor) -> None:
        """Writes down who asks and when (RFC 3339), after `prepare_create` or `prepare_update`; few kinds do."""

    def validate_name(self, name: str, prefix: bool) -> list[str]:
        """Returns what is wrong with a name; `prefix` when it is a generateName."""
        from proa.meta.names import dns1123_subdomain

        return dns1123_subdomain(name, prefix)

    def validate(self, obj: Obj) -> list[FieldError]:
        """Checks a new object, without the parts of metadata that all objects share."""
        return []

    def validate_update(self, obj: Obj, old: Obj) -> list[FieldError]:
        """Checks a changed object against its old form; usually includes `validate`."""
        return self.validate(obj)

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        """Returns texts for Warning headers."""
        return []

    def selectable_fields(self, obj: Obj) -> Mapping[str, str]:
        """Returns field selector values besides metadata.name and metadata.namespace."""
        return {}

    # Finalizers that an object gets when its deletion begins.
    deletion_finalizers: tuple[str, ...] = ()

    # The labels of fields that a selector may name, besides metadata.name and metadata.namespace.
    field_labels: tuple[str, ...] = ()

    def grace_seconds(self, obj: Obj, requested: int | None) -> int | None:
        """Returns the deletion's grace period, or None if the resource is deleted at once, as most are."""
        return None

    def delete_warnings(self, propagation: str | None) -> list[str]:
        """Returns texts for Warning headers of a deletion; `propagation` is what the request says, if anything."""
        return []

    def deletion_refusal(self, obj: Obj) -> str:
        """Returns why an object may not be deleted, or nothing."""
        return ""

    def default_propagation(self, obj: Obj) -> str:
        """Returns Background or Orphan: what happens to dependents if the request does not say."""
        return "Background"


class StatusStrategy:
    """How a subresource that shows the same object (status, approval, finalize, …) is updated. Pure."""

    # Members that stay what they are, whatever is sent, and that `default` does not look at: the new object shares
    # them with the old one.
    shares: tuple[str, ...] = ()

    def __init__(self, main: Strategy) -> None:
        self.main = main

    def default(self, obj: Obj) -> None:
        """Fills in upstream's defaults of what this subresource can change."""
        self.main.default(obj)

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        """Keeps everything of `old` except the status (and the metadata a status update may change)."""
        if "spec" in old:
            obj["spec"] = old["spec"]
        else:
            obj.pop("spec", None)

    def stamp(self, obj: Obj, old: Obj, now: str) -> None:
        """Writes down the time (RFC 3339) of a change, after `prepare_update`; few kinds do."""

    def validate_update(self, obj: Obj, old: Obj) -> list[FieldError]:
        return []

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        """Returns texts for Warning headers."""
        return []


@dataclass(frozen=True, slots=True, kw_only=True)
class Subresource:
    """`strategy` is set if it shows the same object (status); others (scale, exec, token) have code of their own.

    `kind` is the kind on the wire: the resource's own, or for example autoscaling/v1 Scale.
    """

    name: str
    verbs: tuple[str, ...]
    kind: GVK
    strategy: StatusStrategy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceDef:
    """One resource in one version."""

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    namespaced: bool = True
    verbs: tuple[str, ...] = ALL_VERBS
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[Subresource, ...] = ()
    strategy: Strategy = field(default_factory=Strategy)
    columns: tuple[Column, ...] = ()
    # Cells of one row, in the order of `columns`; `now` for ages. None: name and age only.
    cells: Callable[[Obj, datetime], Sequence[Any]] | None = None
    # Conditions of a table row (a pod that is done has one); None or an empty list: the row has none.
    row_conditions: Callable[[Obj], list[Obj]] | None = None
    # Name of its OpenAPI definition, such as io.k8s.api.apps.v1.Deployment
    schema: str = ""
    # Where it is stored, such as "apps/deployments"; two versions of one resource share it.
    storage: str = ""
    # The stored form is that of another version: functions between this version and the stored one. Each returns a
    # new object and leaves its argument alone.
    from_stored: Callable[[Obj], Obj] | None = None
    to_stored: Callable[[Obj], Obj] | None = None
    storage_version_hash: str = ""
    # Made at run time from a definition: its schema is the strategy's, not a built-in one.
    custom: bool = False
    # Of a custom resource: how this version relates to what is stored, which may take a webhook.
    form: Form | None = None
    # Why nothing may be created now, if that is so (its definition is being deleted).
    closed: str = ""
    # A Warning for every request, if this version is deprecated.
    deprecation: str = ""

    # Made of the above once, as every request asks for them.
    gvr: GVR = field(init=False, repr=False, compare=False)
    gvk: GVK = field(init=False, repr=False, compare=False)
    # The kind in the group it is stored in, which errors about its content name (events: the core group).
    stored_gvk: GVK = field(init=False, repr=False, compare=False)
    api_version: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        group, version = self.group, self.version
        made = {
            "gvr": GVR(group, version, self.plural),
            "gvk": GVK(group, version, self.kind),
            "stored_gvk": GVK(self.storage.rpartition("/")[0] if self.storage else group, version, self.kind),
            "api_version": f"{group}/{version}" if group else version,
        }
        for name, value in made.items():
            object.__setattr__(self, name, value)

    def subresource(self, name: str) -> Subresource | None:
        for one in self.subresources:
            if one.name == name:
                return one
        return None
