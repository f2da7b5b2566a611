"""The resources of authorization.k8s.io, in discovery order."""

from __future__ import annotations

from proa.apis.authorization.local_subject_access_review import LOCAL_SUBJECT_ACCESS_REVIEW
from proa.apis.authorization.self_subject_access_review import SELF_SUBJECT_ACCESS_REVIEW
from proa.apis.authorization.self_subject_rules_review import SELF_SUBJECT_RULES_REVIEW
from proa.apis.authorization.subject_access_review import SUBJECT_ACCESS_REVIEW
from proa.apis.registry import ResourceDef

RESOURCES: tuple[ResourceDef, ...] = (
    LOCAL_SUBJECT_ACCESS_REVIEW,
    SELF_SUBJECT_ACCESS_REVIEW,
    SELF_SUBJECT_RULES_REVIEW,
    SUBJECT_ACCESS_REVIEW,
)
