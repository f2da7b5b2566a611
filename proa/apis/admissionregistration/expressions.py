"""CEL of admission: what its expressions may name, whether they compile, and to what.

Import it only where there is an expression. Follows upstream's admission environments: `object` and `oldObject` are
dynamic (but for type checking, which gives them the types of a schema), `request` and `namespaceObject` have types of
their own, `variables` those of the policy's earlier variables.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from proa.apis.fields import Errors
from proa.meta.cel import CompileError, Environment, Program
from proa.meta.cel.signatures import Library
from proa.meta.cel.types import BOOL, DYN, INT, STRING, TIMESTAMP, Type, list_of, map_of, message
from proa.meta.errors import invalid_field
from proa.meta.objects import Obj

# What the result of an expression may be, as messages show it.
TO_BOOL, TO_STRING = ("bool",), ("string",)
TO_ANNOTATION = ("string", "null_type")
TO_OBJECT, TO_PATCH = ("Object",), ("list(JSONPatch)",)

_AUTHORIZER, _RESOURCE_CHECK = (f"kubernetes.authorization.{one}" for one in ("Authorizer", "ResourceCheck"))


class ExpressionError(ValueError):
    """An expression does not compile, or to a wrong type; the text says so as upstream does."""


@cache
def request_type() -> Type:
    """Returns the type of `request`: an AdmissionRequest without uid, object and oldObject."""
    kind = message("kubernetes.GroupVersionKind", dict.fromkeys(("group", "version", "kind"), STRING))
    resource = message("kubernetes.GroupVersionResource", dict.fromkeys(("group", "version", "resource"), STRING))
    user = {"username": STRING, "uid": STRING, "groups": list_of(STRING), "extra": map_of(STRING, list_of(STRING))}
    texts = dict.fromkeys(("subResource", "requestSubResource", "name", "namespace", "operation"), STRING)
    return message(
        "kubernetes.AdmissionRequest",
        {
            **dict.fromkeys(("kind", "requestKind"), kind),
            **dict.fromkeys(("resource", "requestResource"), resource),
            **texts,
            "userInfo": message("kubernetes.UserInfo", user),
            "dryRun": BOOL,
            "options": DYN,
        },
    )


@cache
def namespace_type() -> Type:
    """Returns the type of `namespaceObject`: a Namespace without owners and managed fields."""
    texts = ("name", "generateName", "namespace", "UID", "resourceVersion")
    meta = {
        **dict.fromkeys(texts, STRING),
        **dict.fromkeys(("labels", "annotations"), map_of(STRING, STRING)),
        **dict.fromkeys(("creationTimestamp", "deletionTimestamp"), TIMESTAMP),
        **dict.fromkeys(("deletionGracePeriodSeconds", "generation"), INT),
        "finalizers": list_of(STRING),
    }
    condition = {**dict.fromkeys(("status", "type", "message", "reason"), STRING), "lastTransitionTime": TIMESTAMP}
    status = {"conditions": list_of(message("kubernetes.NamespaceCondition", condition)), "phase": STRING}
    return message(
        "kubernetes.Namespace",
        {
            "metadata": message("kubernetes.NamespaceMetadata", meta),
            "spec": message("kubernetes.NamespaceSpec", {"finalizers": list_of(STRING)}),
            "status": message("kubernetes.NamespaceStatus", status),
        },
    )


def escape_key(key: str) -> str:
    """Returns a key as a step of a JSON pointer."""
    return key.replace("~", "~0").replace("/", "~1")


_PATCH_LIBRARY: Library = {"jsonpatch.escapeKey(string) string": escape_key}
_PATCH = message("JSONPatch", {**dict.fromkeys(("op", "path", "from"), STRING), "value": DYN})


def _patch_structs(name: str) -> Type | None:
    """Finds the types that mutations make: `JSONPatch`, and `Object` with one type below each path."""
    if name == "JSONPatch":
        return _PATCH
    if name == "Object" or name.startswith("Object."):
        return Type(name, (), lambda field: (field, DYN))
    return None


class Scope:
    """The names that the expressions of one policy (or the conditions of one webhook) may use."""

    def __init__(
        self,
        *,
        params: bool = False,
        variables: bool = False,
        patches: bool = False,
        object_type: Type = DYN,
        params_type: Type = DYN,
    ) -> None:
        self._types: dict[str, Type] = {
            "object": object_type,
            "oldObject": object_type,
            "request": request_type(),
            "namespaceObject": namespace_type(),
        }
        if params:
            self._types["params"] = params_type
        # What `variables` has; it grows as variables are compiled.
        self.variables: dict[str, Type] = {}
        if variables:
            self._types["variables"] = message("kubernetes.variables", self.variables)
        self._authorizer = {"authorizer": Type(_AUTHORIZER), "authorizer.requestResource": Type(_RESOURCE_CHECK)}
        self._patches = patches

    def compile(self, source: str, wanted: tuple[str, ...] = (), *, authorizer: bool = True) -> Program:
        """Returns the program; raises ExpressionError. `wanted` are types of which the result must be one."""
        types = {**self._types, **self._authorizer} if authorizer else self._types
        environment = Environment(types, _patch_structs, _PATCH_LIBRARY) if self._patches else Environment(types)
        try:
            program = environment.compile(source)
        except CompileError as error:
            raise ExpressionError(f"compilation failed: {error}") from None
        found = "null_type" if program.type.name == "null_type" else str(program.type)
        if wanted and found not in wanted:
            shown = wanted[0] if len(wanted) == 1 else f"one of [{' '.join(wanted)}]"
            raise ExpressionError(f"must evaluate to {shown} but got {found}")
        return program

    def add_variable(self, name: str, source: str) -> Program:
        """Compiles a variable, which later expressions may use; raises ExpressionError."""
        program = self.compile(source)
        self.variables[name] = program.type
        return program

    def check(self, source: str, path: str, wanted: tuple[str, ...], *, authorizer: bool = True) -> Errors:
        """Returns what is wrong with an expression at a field; nothing about an empty one."""
        if not source.strip():
            return []
        try:
            self.compile(source, wanted, authorizer=authorizer)
        except ExpressionError as error:
            return [invalid_field(path, source, str(error))]
        return []


def policy_scope(spec: Obj, *, patches: bool = False, **types: Any) -> Scope:
    """Returns the scope of a policy's expressions, still without its variables."""
    return Scope(params=spec.get("paramKind") is not None, variables=True, patches=patches, **types)


def condition_scope(spec: Obj) -> Scope:
    """Returns the scope of the match conditions of a policy's spec, or of a webhook, which has no parameters."""
    return Scope(params=spec.get("paramKind") is not None)
