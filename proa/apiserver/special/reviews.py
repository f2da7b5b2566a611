"""Reviews: questions about access and identity that are answered, never stored.

SubjectAccessReview, its local and self forms, SelfSubjectRulesReview, TokenReview and SelfSubjectReview, after
upstream's `authorization` and `authentication` registries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proa.apis.rbac.evaluate import compact
from proa.apiserver.authn.chain import Authentication
from proa.apiserver.authn.impersonation import AUTHENTICATED
from proa.apiserver.authn.tokens import RevokedToken
from proa.apiserver.authz.chain import MASTERS, Authorization
from proa.apiserver.contracts import Attributes
from proa.client.interface import ApiRequest, UserInfo
from proa.meta.errors import FieldError, StatusError, bad_request, invalid, invalid_field
from proa.meta.gvk import GVK
from proa.meta.objects import Obj
from proa.util.clock import Clock, rfc3339

_AUTHORIZATION = "authorization.k8s.io"
_AUTHENTICATION = "authentication.k8s.io"


class Reviews:
    """Special handlers by resource; `handlers` names them for registration."""

    def __init__(self, authentication: Authentication, authorization: Authorization, clock: Clock) -> None:
        self._authentication = authentication
        self._authorization = authorization
        self._clock = clock

    # ------------------------------------------------------------ access

    async def subject_access_review(self, request: ApiRequest) -> Obj:
        spec = _spec(request)
        errors = _attribute_errors(spec)
        if not spec.get("user") and not spec.get("groups"):
            errors.append(
                invalid_field("spec.user", spec.get("user") or "", "at least one of user or group must be specified")
            )
        _raise(errors)
        return self._reviewed(request, "SubjectAccessReview", _subject(spec))

    async def local_subject_access_review(self, request: ApiRequest) -> Obj:
        spec = _spec(request)
        errors = _attribute_errors(spec)
        if not spec.get("user") and not spec.get("groups"):
            errors.append(
                invalid_field("spec.user", spec.get("user") or "", "at least one of user or group must be specified")
            )
        wanted = (spec.get("resourceAttributes") or {}).get("namespace") or ""
        if spec.get("nonResourceAttributes") is not None:
            value = spec["nonResourceAttributes"]
            errors = [invalid_field("spec.nonResourceAttributes", value, "disallowed on this kind of request")]
        elif not errors and wanted != request.namespace:
            path = "spec.resourceAttributes.namespace"
            errors.append(invalid_field(path, wanted, "must match metadata.namespace"))
        _raise(errors)
        review = self._reviewed(request, "LocalSubjectAccessReview", _subject(spec))
        review["metadata"] = {**review["metadata"], "namespace": request.namespace}
        return review

    async def self_subject_access_review(self, request: ApiRequest) -> Obj:
        _raise(_attribute_errors(_spec(request)))
        return self._reviewed(request, "SelfSubjectAccessReview", request.user)

    def _reviewed(self, request: ApiRequest, kind: str, user: UserInfo) -> Obj:
        spec = _spec(request)
        decision = self._authorization.authorize(_attributes(spec, user))
        status: Obj = {"allowed": decision.allowed}
        if decision.denied:
            status["denied"] = True
        if decision.reason:
            status["reason"] = decision.reason
        return _review(request, _AUTHORIZATION, kind, status, spec)

    async def self_subject_rules_review(self, request: ApiRequest) -> Obj:
        spec = _spec(request)
        namespace = spec.get("namespace") or ""
        if not namespace:
            raise bad_request("no namespace on request")
        rules = compact(self._authorization.rbac.rules_for(request.user, namespace))
        if MASTERS in request.user.groups:
            rules = [
                {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
                {"verbs": ["*"], "nonResourceURLs": ["*"]},
                *rules,
            ]
        keys = ("verbs", "apiGroups", "resources", "resourceNames")
        status: Obj = {
            "resourceRules": [_shown(rule, keys) for rule in rules if rule.get("resources")],
            "nonResourceRules": [
                _shown(rule, ("verbs", "nonResourceURLs")) for rule in rules if rule.get("nonResourceURLs")
            ],
            "incomplete": False,
        }
        return _review(request, _AUTHORIZATION, "SelfSubjectRulesReview", status, spec)

    # ------------------------------------------------------------ identity

    async def token_review(self, request: ApiRequest) -> Obj:
        spec = _spec(request)
        token, audiences = spec.get("token") or "", spec.get("audiences") or None
        if not token:
            raise bad_request("token is required for TokenReview in authentication")
        status: Obj
        try:
            user, shared = self._token(token, audiences)
        except RevokedToken:
            status = {"user": {}, "error": "[invalid bearer token, service account token has been invalidated]"}
        except StatusError:
            status = {"user": {}, "error": "invalid bearer token"}
        else:
            status = {"authenticated": True, "user": user_object(user), "audiences": shared}
        return _review(request, _AUTHENTICATION, "TokenReview", status, spec)

    def _token(self, token: str, audiences: Sequence[str] | None) -> tuple[UserInfo, list[str]]:
        tokens = self._authentication.tokens
        if tokens.is_ours(token):
            user, shared = tokens.authenticate(token, audiences)
            groups = user.groups if AUTHENTICATED in user.groups else (*user.groups, AUTHENTICATED)
            return UserInfo(user.name, groups, user.uid, user.extra), shared
        return self._authentication.authenticate_token(token), list(audiences or tokens.audiences)

    async def self_subject_review(self, request: ApiRequest) -> Obj:
        review = _review(request, _AUTHENTICATION, "SelfSubjectReview", {"userInfo": user_object(request.user)})
        review["metadata"] = {**review["metadata"], "creationTimestamp": rfc3339(self._clock.now())}
        return review


def user_object(user: UserInfo) -> Obj:
    """Returns a user as the authentication API shows it."""
    shown: Obj = {"username": user.name}
    if user.uid:
        shown["uid"] = user.uid
    if user.groups:
        shown["groups"] = list(user.groups)
    if user.extra:
        shown["extra"] = {key: list(values) for key, values in sorted(user.extra.items())}
    return shown


def _spec(request: ApiRequest) -> Obj:
    spec: Obj = (request.body or {}).get("spec") or {}
    return spec


def _review(request: ApiRequest, group: str, kind: str, status: Obj, spec: Obj | None = None) -> Obj:
    review: Obj = {
        "kind": kind,
        "apiVersion": f"{group}/{request.resource.version}",
        "metadata": (request.body or {}).get("metadata") or {},
    }
    if spec is not None:
        review["spec"] = spec
    review["status"] = status
    return review


def _shown(rule: Obj, keys: Sequence[str]) -> Obj:
    return {key: rule[key] for key in keys if rule.get(key)}


def _subject(spec: Obj) -> UserInfo:
    extra = {key.lower(): tuple(values or ()) for key, values in (spec.get("extra") or {}).items()}
    return UserInfo(spec.get("user") or "", tuple(spec.get("groups") or ()), spec.get("uid") or "", extra)


def _attributes(spec: Obj, user: UserInfo) -> Attributes:
    path = spec.get("nonResourceAttributes")
    if path is not None:
        return Attributes(user=user, verb=path.get("verb") or "", path=path.get("path") or "/")
    wanted = spec.get("resourceAttributes") or {}
    return Attributes(
        user=user,
        verb=wanted.get("verb") or "",
        group=wanted.get("group") or "",
        version=wanted.get("version") or "",
        resource=wanted.get("resource") or "",
        subresource=wanted.get("subresource") or "",
        namespace=wanted.get("namespace") or "",
        name=wanted.get("name") or "",
        field_selector=_selector_text(wanted.get("fieldSelector")),
        label_selector=_selector_text(wanted.get("labelSelector")),
    )


def _selector_text(selector: Obj | None) -> str:
    """Returns a selector as text; of requirements, those that demand one value (all that authorization looks at)."""
    if not selector:
        return ""
    if selector.get("rawSelector"):
        return str(selector["rawSelector"])
    return ",".join(
        f"{one.get('key')}={one['values'][0]}"
        for one in selector.get("requirements") or ()
        if one.get("operator") == "In" and len(one.get("values") or ()) == 1
    )


def _attribute_errors(spec: Obj) -> list[FieldError]:
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if resource is not None and path is not None:
        text = "cannot be specified in combination with resourceAttributes"
        return [invalid_field("spec.nonResourceAttributes", path, text)]
    if resource is None and path is None:
        text = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        return [invalid_field("spec.resourceAttributes", None, text)]
    errors: list[FieldError] = []
    for key in ("fieldSelector", "labelSelector"):
        selector = (resource or {}).get(key) or {}
        if selector.get("rawSelector") and selector.get("requirements"):
            where = f"spec.resourceAttributes.{key}.rawSelector"
            errors.append(
                invalid_field(where, selector["rawSelector"], "may not specified at the same time as requirements")
            )
    return errors


def _raise(errors: Sequence[FieldError]) -> None:
    if errors:
        raise invalid(GVK(_AUTHORIZATION, "", ""), "", errors)


def handlers(reviews: Reviews) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Returns the handlers as the API server registers them."""
    return {
        (_AUTHORIZATION, "subjectaccessreviews", ""): {"create": reviews.subject_access_review},
        (_AUTHORIZATION, "localsubjectaccessreviews", ""): {"create": reviews.local_subject_access_review},
        (_AUTHORIZATION, "selfsubjectaccessreviews", ""): {"create": reviews.self_subject_access_review},
        (_AUTHORIZATION, "selfsubjectrulesreviews", ""): {"create": reviews.self_subject_rules_review},
        (_AUTHENTICATION, "tokenreviews", ""): {"create": reviews.token_review},
        (_AUTHENTICATION, "selfsubjectreviews", ""): {"create": reviews.self_subject_review},
    }
