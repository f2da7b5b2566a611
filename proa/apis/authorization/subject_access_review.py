"""SubjectAccessReview, as of authorization.k8s.io/v1: whether someone may do something."""

from __future__ import annotations

from proa.apis.authorization.reviews import AccessReviewStrategy
from proa.apis.define import resource


class SubjectAccessReviewStrategy(AccessReviewStrategy):
    about_self = False


SUBJECT_ACCESS_REVIEW = resource(
    "authorization.k8s.io",
    "v1",
    "SubjectAccessReview",
    "subjectaccessreviews",
    strategy=SubjectAccessReviewStrategy(),
    namespaced=False,
    verbs=("create",),
)
