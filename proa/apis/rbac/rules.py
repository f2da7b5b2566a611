"""What is valid in RBAC: rules, role references and subjects; shared by the four kinds of rbac.authorization.k8s.io."""

from __future__ import annotations

from proa.apis.fields import Errors, problems
from proa.apis.registry import Strategy
from proa.apis.shape import child, children, drop_zero, null_if_empty
from proa.meta import names
from proa.meta.errors import invalid_field, required_field, unsupported_field
from proa.meta.objects import Obj

GROUP = "rbac.authorization.k8s.io"
_SUBJECT_KINDS = ("ServiceAccount", "User", "Group")
_NONRESOURCE_ONLY = "rules cannot apply to both regular resources and non-resource URLs"


class RbacStrategy(Strategy):
    """The names of RBAC objects need only fit in a path, and a PUT may create them."""

    allow_create_on_update = True

    def validate_name(self, name: str, prefix: bool) -> list[str]:
        return names.path_segment(name, prefix)


class RoleStrategy(RbacStrategy):
    namespaced = True

    def default(self, obj: Obj) -> None:
        null_if_empty(obj, "rules")
        for rule in obj["rules"] or []:
            drop_zero(rule, "apiGroups", "resources", "resourceNames", "nonResourceURLs")
            null_if_empty(rule, "verbs")

    def validate(self, obj: Obj) -> Errors:
        errors: Errors = []
        for index, rule in enumerate(children(obj, "rules")):
            errors += policy_rule(rule, f"rules[{index}]", namespaced=self.namespaced)
        return errors


def policy_rule(rule: Obj, path: str, *, namespaced: bool) -> Errors:
    """Checks one rule; one that names URLs may name nothing else, and only in a ClusterRole."""
    errors: Errors = []
    if not rule.get("verbs"):
        errors.append(required_field(f"{path}.verbs", "verbs must contain at least one value"))
    urls = rule.get("nonResourceURLs")
    if urls:
        if namespaced:
            detail = "namespaced rules cannot apply to non-resource URLs"
            errors.append(invalid_field(f"{path}.nonResourceURLs", urls, detail))
        if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
            errors.append(invalid_field(f"{path}.nonResourceURLs", urls, _NONRESOURCE_ONLY))
        return errors
    if not rule.get("apiGroups"):
        errors.append(required_field(f"{path}.apiGroups", "resource rules must supply at least one api group"))
    if not rule.get("resources"):
        errors.append(required_field(f"{path}.resources", "resource rules must supply at least one resource"))
    return errors


class BindingStrategy(RbacStrategy):
    role_kinds: tuple[str, ...] = ("Role", "ClusterRole")
    namespaced = True

    def default(self, obj: Obj) -> None:
        role = child(obj, "roleRef")
        role["apiGroup"] = role.get("apiGroup") or GROUP
        drop_zero(obj, "subjects")
        for subject in children(obj, "subjects"):
            drop_zero(subject, "apiGroup", "namespace")
            if "apiGroup" not in subject and subject.get("kind") in ("User", "Group"):
                subject["apiGroup"] = GROUP

    def validate(self, obj: Obj) -> Errors:
        role = obj.get("roleRef") or {}
        errors: Errors = []
        if role.get("apiGroup") != GROUP:
            errors.append(unsupported_field("roleRef.apiGroup", role.get("apiGroup") or "", (GROUP,)))
        if role.get("kind") not in self.role_kinds:
            errors.append(unsupported_field("roleRef.kind", role.get("kind") or "", self.role_kinds))
        name = role.get("name") or ""
        if not name:
            errors.append(required_field("roleRef.name"))
        else:
            errors += problems(names.path_segment(name), "roleRef.name", name)
        for index, subject in enumerate(children(obj, "subjects")):
            errors += self._subject(subject, f"subjects[{index}]")
        return errors

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        errors = self.validate(obj)
        if obj.get("roleRef") != old.get("roleRef"):
            errors.append(invalid_field("roleRef", obj.get("roleRef"), "cannot change roleRef"))
        return errors

    def _subject(self, subject: Obj, path: str) -> Errors:
        errors: Errors = []
        kind, name, group = (subject.get(key) or "" for key in ("kind", "name", "apiGroup"))
        if not name:
            errors.append(required_field(f"{path}.name"))
        if kind == "ServiceAccount":
            if name:
                errors += problems(names.dns1123_subdomain(name), f"{path}.name", name)
            if group:
                errors.append(unsupported_field(f"{path}.apiGroup", group, ("",)))
            if not self.namespaced and not subject.get("namespace"):
                errors.append(required_field(f"{path}.namespace"))
        elif kind in ("User", "Group"):
            if group != GROUP:
                errors.append(unsupported_field(f"{path}.apiGroup", group, (GROUP,)))
        else:
            errors.append(unsupported_field(f"{path}.kind", kind, _SUBJECT_KINDS))
        return errors
