"""SelfSubjectAccessReview, as of authorization.k8s.io/v1: whether the one who asks may do something."""

from __future__ import annotations

from proa.apis.authorization.reviews import AccessReviewStrategy
from proa.apis.define import resource

SELF_SUBJECT_ACCESS_REVIEW = resource(
    "authorization.k8s.io",
    "v1",
    "SelfSubjectAccessReview",
    "selfsubjectaccessreviews",
    strategy=AccessReviewStrategy(),
    namespaced=False,
    verbs=("create",),
)
