"""The plugins of a real server, in upstream's order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from proa.apiserver.admission.certificates import (
    CertificateSubjectRestriction,
    ClusterTrustBundleAttest,
    SignerRights,
)
from proa.apiserver.admission.externalips import DenyServiceExternalIPs
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

OFF_BY_DEFAULT = {DenyServiceExternalIPs.name}


def default_admission(
    live: Live, resources: Resources, authorization: Authorization, suffix: Callable[[], str], caller: WebhookCaller
) -> list[AdmissionPlugin]:
    """Returns the chain, with what is off unless asked for (see `chosen`). `suffix` returns five random letters.

    Give the ResourceQuota plugin its API with `attach`.
    """
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
        ClusterTrustBundleAttest(authorization),
        CertificateSubjectRestriction(),
        DefaultIngressClass(live),
        DefaultStorageClass(live),
        PodTopologyLabels(live),
        DenyServiceExternalIPs(),
        MutatingPolicies(live, resources, authorization),
        MutatingWebhooks(live, resources, caller, authorization),
        RoleEscalation(authorization),
        PolicyParameters(live, resources, authorization),
        ValidatingPolicies(live, resources, authorization),
        ValidatingWebhooks(live, resources, caller, authorization),
        ResourceQuota(live),
    ]


def chosen(
    plugins: Sequence[AdmissionPlugin], enabled: Collection[str], disabled: Collection[str]
) -> list[AdmissionPlugin]:
    """Returns the plugins that run: those that do by default and the `enabled`, without the `disabled`.

    Raises ValueError for a name that no plugin has, or that is in both.
    """
    known = {name for plugin in plugins if (name := getattr(plugin, "name", ""))}
    for name in (*enabled, *disabled):
        if name not in known:
            raise ValueError(f"there is no admission plugin {name!r}; there are {', '.join(sorted(known))}")
        if name in enabled and name in disabled:
            raise ValueError(f"admission plugin {name!r} is both enabled and disabled")
    off = OFF_BY_DEFAULT - set(enabled) | set(disabled)
    return [plugin for plugin in plugins if getattr(plugin, "name", "") not in off]
