"""LocalSubjectAccessReview, as of authorization.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import resource

LOCAL_SUBJECT_ACCESS_REVIEW = resource(
    "authorization.k8s.io",
    "v1",
    "LocalSubjectAccessReview",
    "localsubjectaccessreviews",
    verbs=("create",),
)
