"""TokenReview, as of authentication.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import resource

TOKEN_REVIEW = resource(
    "authentication.k8s.io",
    "v1",
    "TokenReview",
    "tokenreviews",
    namespaced=False,
    verbs=("create",),
)
