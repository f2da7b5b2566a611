"""LocalSubjectAccessReview, as of authorization.k8s.io/v1: whether someone may do something in a namespace."""

from __future__ import annotations

from proa.apis.authorization.reviews import LocalAccessReviewStrategy
from proa.apis.define import resource

LOCAL_SUBJECT_ACCESS_REVIEW = resource(
    "authorization.k8s.io",
    "v1",
    "LocalSubjectAccessReview",
    "localsubjectaccessreviews",
    strategy=LocalAccessReviewStrategy(),
    verbs=("create",),
)
