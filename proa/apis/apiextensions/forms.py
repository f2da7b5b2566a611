"""What is stored of a custom resource, and what one of its versions shows of that.

An object lies in the store as it was written: in the version that was the storage version then, with the fields and
defaults that its schema had then. Whoever reads it gets what the definition says now, as upstream's decoding from
storage does: pruned and defaulted by the schema of the version it is stored in, then converted to the version asked
for, and pruned by that one's schema. The conversion strategy None changes apiVersion only; a webhook is asked by the
API server (`proa.apiserver.crd.conversion`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from proa.apis.apiextensions import values
from proa.meta.objects import Obj

SchemaOf = Callable[[], Obj]


class FormToken:
    """Stands for one version under one state of its definition; `retired` once the definition has changed.

    Entries keep what readers made of them by token, so that nothing of the definition lives as long as they do.
    """

    __slots__ = ("_listeners", "retired")

    def __init__(self) -> None:
        self.retired = False
        self._listeners: set[Callable[[], None]] = set()

    def retire(self) -> None:
        """Says that the definition changed or went; calls who waits for that, once."""
        self.retired = True
        listeners, self._listeners = self._listeners, set()
        for listener in listeners:
            listener()

    def on_retirement(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Has `listener` called at retirement; returns what takes that back."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)


class Form:
    """One version (`api_version`, such as example.com/v1) and how it relates to what is stored.

    `storage` is the apiVersion of new writes, `schemas` gives the structural schema of every version of the definition
    by apiVersion, `webhook` is the conversion webhook's part of the definition if it has one.
    """

    __slots__ = ("_schemas", "api_version", "storage", "token", "webhook")

    def __init__(
        self, api_version: str, storage: str, schemas: Mapping[str, SchemaOf], webhook: Obj | None = None
    ) -> None:
        self.api_version = api_version
        self.storage = storage
        self._schemas = schemas
        self.webhook = webhook
        self.token = FormToken()

    def restore(self, obj: Obj) -> bool:
        """Brings what was decoded from the store up to date in the version it is stored in, in place.

        Tells whether that changed anything. An object of a version that is no more stays as it is.
        """
        schema = self._schemas.get(obj.get("apiVersion") or "")
        if schema is None:
            return False
        pruned = values.prune(obj, schema())
        return values.default(obj, schema()) or bool(pruned)

    def needs_webhook(self, api_version: str, wanted: str = "") -> bool:
        """Tells whether only the webhook can turn an object of `api_version` into `wanted` (by default this form)."""
        return self.webhook is not None and api_version != (wanted or self.api_version)

    def coerce(self, obj: Obj, api_version: str) -> Obj:
        """Makes an object, in place, one of another version by name, without what that one's schema does not know."""
        obj["apiVersion"] = api_version
        schema = self._schemas.get(api_version)
        if schema is not None:
            values.prune(obj, schema())
        return obj
