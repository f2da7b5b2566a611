"""The resources of admissionregistration.k8s.io, in discovery order."""

from __future__ import annotations

from proa.apis.admissionregistration.mutating_admission_policy import MUTATING_ADMISSION_POLICY
from proa.apis.admissionregistration.mutating_admission_policy_binding import MUTATING_ADMISSION_POLICY_BINDING
from proa.apis.admissionregistration.mutating_webhook_configuration import MUTATING_WEBHOOK_CONFIGURATION
from proa.apis.admissionregistration.validating_admission_policy import VALIDATING_ADMISSION_POLICY
from proa.apis.admissionregistration.validating_admission_policy_binding import VALIDATING_ADMISSION_POLICY_BINDING
from proa.apis.admissionregistration.validating_webhook_configuration import VALIDATING_WEBHOOK_CONFIGURATION
from proa.apis.registry import ResourceDef

RESOURCES: tuple[ResourceDef, ...] = (
    MUTATING_ADMISSION_POLICY,
    MUTATING_ADMISSION_POLICY_BINDING,
    MUTATING_WEBHOOK_CONFIGURATION,
    VALIDATING_ADMISSION_POLICY,
    VALIDATING_ADMISSION_POLICY_BINDING,
    VALIDATING_WEBHOOK_CONFIGURATION,
)
