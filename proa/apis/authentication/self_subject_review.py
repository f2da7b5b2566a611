"""SelfSubjectReview, as of authentication.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import resource

SELF_SUBJECT_REVIEW = resource(
    "authentication.k8s.io",
    "v1",
    "SelfSubjectReview",
    "selfsubjectreviews",
    namespaced=False,
    verbs=("create",),
)
