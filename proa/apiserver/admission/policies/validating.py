"""ValidatingAdmissionPolicy: CEL rules that refuse, warn about or note requests.

Messages and the order of what counts follow upstream's plugin: the first denial of the policies, by name, is the
answer, whatever comes after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from proa.apiserver.admission.base import Plugin, name_of_request
from proa.apiserver.admission.policies.catalog import Catalog, Use
from proa.apiserver.contracts import AdmissionRequest, Authorizer
from proa.apiserver.live import Live
from proa.apiserver.resources import Resources
from proa.client.resources import VALIDATINGADMISSIONPOLICIES, VALIDATINGADMISSIONPOLICYBINDINGS
from proa.meta.errors import StatusError, forbidden
from proa.meta.objects import Obj

if TYPE_CHECKING:
    from proa.apiserver.admission.policies.judging import Judge, Verdict

_CODES = {"Unauthorized": 401, "Forbidden": 403, "RequestEntityTooLarge": 413}
_FAILURE_KEY = "validation.policy.admission.k8s.io/validation_failure"
_ANNOTATION_BYTES_MAX = 10 * 1024


@dataclass(frozen=True, slots=True)
class _Denial:
    use: Use[Judge]
    message: str
    reason: str = ""


class ValidatingPolicies(Plugin):
    name = "ValidatingAdmissionPolicy"

    def __init__(self, live: Live, resources: Resources, authorizer: Authorizer) -> None:
        self._authorizer = authorizer
        self._catalog: Catalog[Judge] = Catalog(
            live, resources, VALIDATINGADMISSIONPOLICIES, VALIDATINGADMISSIONPOLICYBINDINGS, _judge
        )

    async def validate(self, request: AdmissionRequest) -> None:
        uses = self._catalog.uses(request)
        if not uses:
            return
        from proa.apiserver.admission.versions import Views  # only where a policy matches

        views, denials = Views(request), []
        annotations: dict[str, dict[str, list[str]]] = {}
        for use in uses:
            if use.problem:
                if not use.policy.ignores_failures:
                    denials.append(_Denial(use, use.problem))
                continue
            seen = await views.of(use.resource)
            namespace = self._catalog.namespace(request)
            for params in use.params:
                verdict = use.policy.compiled.judge(request, seen, self._authorizer, params, namespace)
                denials += _enforced(use, verdict, request)
                noted = annotations.setdefault(use.policy.name, {})
                for key, value in verdict.annotations:
                    values = noted.setdefault(key, [])
                    if value not in values:
                        values.append(value)
        for policy, noted in annotations.items():
            for key, values in noted.items():
                request.annotations.setdefault(f"{policy}/{key}", ", ".join(values))
        if denials:
            raise _refusal(denials[0], request)


def _judge(spec: Obj) -> Judge:
    from proa.apiserver.admission.policies.judging import Judge

    return Judge(spec)


def _enforced(use: Use[Judge], verdict: Verdict, request: AdmissionRequest) -> Iterator[_Denial]:
    """Does what the binding says about each failed validation; yields what denies the request."""
    assert use.binding is not None
    actions = use.binding.spec.get("validationActions") or ()
    for failure in verdict.failures:
        if "Deny" in actions:
            yield _Denial(use, failure.message, failure.reason)
        if "Audit" in actions:
            noted = {
                "message": failure.message,
                "policy": use.policy.name,
                "binding": use.binding.name,
                "expressionIndex": failure.index,
                "validationActions": list(actions),
            }
            request.annotations.setdefault(_FAILURE_KEY, msgspec.json.encode([noted]).decode())
        if "Warn" in actions:
            where = f"ValidatingAdmissionPolicy '{use.policy.name}' with binding '{use.binding.name}'"
            request.warnings.append(f"Validation failed for {where}: {failure.message}")
    # What goes wrong with an annotation denies the request whatever the binding says.
    for message in verdict.errors:
        yield _Denial(use, message)


def _refusal(denial: _Denial, request: AdmissionRequest) -> StatusError:
    binding = denial.use.binding
    where = f" with binding '{binding.name}'" if binding is not None else ""
    message = f"ValidatingAdmissionPolicy '{denial.use.policy.name}'{where} denied request: {denial.message}"
    error = forbidden(request.resource.gvr, name_of_request(request) or "Unknown", message)
    error.reason = denial.reason or "Invalid"
    error.code = _CODES.get(error.reason, 422)
    error.details = {**(error.details or {}), "causes": [{"message": message}]}
    return error
