"""SelfSubjectAccessReview, as of authorization.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import resource

SELF_SUBJECT_ACCESS_REVIEW = resource(
    "authorization.k8s.io",
    "v1",
    "SelfSubjectAccessReview",
    "selfsubjectaccessreviews",
    namespaced=False,
    verbs=("create",),
)
