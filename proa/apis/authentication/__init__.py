"""The resources of authentication.k8s.io, in discovery order."""

from __future__ import annotations

from proa.apis.authentication.self_subject_review import SELF_SUBJECT_REVIEW
from proa.apis.authentication.token_review import TOKEN_REVIEW
from proa.apis.registry import ResourceDef

RESOURCES: tuple[ResourceDef, ...] = (
    SELF_SUBJECT_REVIEW,
    TOKEN_REVIEW,
)
