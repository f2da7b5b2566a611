"""The plugins of a real server, in upstream's order."""

from __future__ import annotations

from collections.abc import Callable

from proa.apiserver.admission.certificates import (
    CertificateSubjectRestriction,
    SignerRights,
)
from proa.apiserver.admission.limitranger import LimitRanger
from proa.apiserver.admission.namespacelifecycle import NamespaceLifecycle
from proa.apiserver.admission.noderestriction import NodeRestriction
from proa.apiserver.admission.pods import (
    DefaultTolerationSeconds,
    PodTopologyLabels,
    Priority,
    RuntimeClass,
    TaintNodesByCondition,
)
from proa.apiserver.admission.podsecurity import PodSecurity
from proa.apiserver.admission.policies.mutating import MutatingPolicies
from proa.apiserver.admission.policies.parameters import PolicyParameters
from proa.apiserver.admission.policies.validating import ValidatingPolicies
from proa.apiserver.admission.resourcequota import ResourceQuota
from proa.apiserver.admission.serviceaccount import ServiceAccount
from proa.apiserver.admission.volumes import (
    DefaultIngressClass,
    DefaultStorageClass,
    PersistentVolumeClaimResize,
    StorageObjectInUseProtection,
)
from proa.apiserver.admission.webhooks import MutatingWebhooks, ValidatingWebhooks, WebhookCaller
from proa.apiserver.authz.chain import Authorization
from proa.apiserver.authz.escalation import RoleEscalation
from proa.apiserver.contracts import AdmissionPlugin
from proa.apiserver.live import Live
from proa.apiserver.resources import Resources


def default_admission(
    live: Live, resources: Resources, authorization: Authorization, suffix: Callable[[], str], caller: WebhookCaller
) -> list[AdmissionPlugin]:
    """Returns the chain. `suffix` returns five random letters. Give the ResourceQuota plugin its API with `attach`."""
    return [
        NamespaceLifecycle(live),
        NodeRestriction(live),
        LimitRanger(live),
        ServiceAccount(live, suffix),
        TaintNodesByCondition(),
        PodSecurity(live),
        Priority(live),
        DefaultTolerationSeconds(),
        StorageObjectInUseProtection(),
        PersistentVolumeClaimResize(live),
        RuntimeClass(live),
        SignerRights(authorization),
        CertificateSubjectRestriction(),
        DefaultIngressClass(live),
        DefaultStorageClass(live),
        PodTopologyLabels(live),
        MutatingPolicies(live, resources, authorization),
        MutatingWebhooks(live, resources, caller, authorization),
        RoleEscalation(authorization),
        PolicyParameters(live, resources, authorization),
        ValidatingPolicies(live, resources, authorization),
        ValidatingWebhooks(live, resources, caller, authorization),
        ResourceQuota(live),
    ]
