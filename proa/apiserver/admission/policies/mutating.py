"""MutatingAdmissionPolicy: CEL expressions that change requests' objects.

Policies go by name, each with its bindings and parameters; what one changed the next sees. In the second round those
with `reinvocationPolicy: IfNeeded` are asked again. As upstream, problems of all policies are told together, and each
counts as its policy's failurePolicy says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proa.apiserver.admission.base import Plugin, name_of_request
from proa.apiserver.admission.policies.catalog import Catalog, Use
from proa.apiserver.contracts import AdmissionRequest, Authorizer
from proa.apiserver.live import Live
from proa.apiserver.resources import Resources
from proa.client.resources import MUTATINGADMISSIONPOLICIES, MUTATINGADMISSIONPOLICYBINDINGS
from proa.meta.errors import StatusError, forbidden
from proa.meta.objects import Obj, name_of, namespace_of

if TYPE_CHECKING:
    from proa.apiserver.admission.policies.changing import Changer
    from proa.apiserver.admission.reinvocation import Rounds
    from proa.apiserver.admission.versions import Views

Problems = list[tuple[Use["Changer"], str, str]]


class MutatingPolicies(Plugin):
    name = "MutatingAdmissionPolicy"

    def __init__(self, live: Live, resources: Resources, authorizer: Authorizer) -> None:
        self._authorizer = authorizer
        self._catalog: Catalog[Changer] = Catalog(
            live, resources, MUTATINGADMISSIONPOLICIES, MUTATINGADMISSIONPOLICYBINDINGS, _changer
        )

    async def mutate(self, request: AdmissionRequest) -> None:
        uses = self._catalog.uses(request)
        if not uses:
            return
        from proa.apiserver.admission.reinvocation import Rounds  # only where a policy matches
        from proa.apiserver.admission.versions import Views

        rounds, views = Rounds.of(request, self.name), Views(request)
        rounds.begin(request.obj)
        problems: Problems = []
        changed = False
        for use in uses:
            if use.problem:
                problems.append((use, use.problem, ""))
                continue
            for params in use.params:
                try:
                    changed |= await self._change(request, use, params, rounds, views)
                except _Failed as problem:
                    problems.append((use, str(problem), "Invalid"))
        if changed:
            rounds.changed()  # whoever may be asked again looks at its own work, too
        rounds.end(request.obj)
        told = [one for one in problems if not one[0].policy.ignores_failures]
        if told:
            raise _refusal(told, request)

    async def _change(
        self, request: AdmissionRequest, use: Use[Changer], params: Obj | None, rounds: Rounds, views: Views
    ) -> bool:
        """Lets one policy change the object; returns whether it did.

        Raises _Failed (with what went before it done), and StatusErrors that no failure policy covers.
        """
        from proa.apiserver.admission.evaluation import Failed

        assert use.binding is not None
        seen, changer = await views.of(use.resource), use.policy.compiled
        namespace = self._catalog.namespace(request)
        try:
            if not changer.matches(request, seen, self._authorizer, params, namespace):
                return False
        except Failed as problem:
            raise _Failed(str(problem)) from None
        parameter = (namespace_of(params), name_of(params)) if params else None
        key = use.policy.name, use.binding.name, parameter
        if not rounds.wants(key):
            return False
        changed, failures = False, []
        for mutation in changer.mutations:
            if seen.obj is None:
                break  # nothing to change: a deletion
            try:
                made = changer.change(mutation, request, seen, self._authorizer, params, namespace)
                if await seen.put(made):
                    views.changed(seen)
                    changed = True
            except Failed as problem:
                failures.append(str(problem))
        rounds.asked(key, changed=changed, reinvocable=changer.reinvocable)
        if failures:
            raise _Failed(failures[0])
        return changed


class _Failed(Exception):
    pass


def _changer(spec: Obj) -> Changer:
    from proa.apiserver.admission.policies.changing import Changer

    return Changer(spec)


def _refusal(problems: Problems, request: AdmissionRequest) -> StatusError:
    messages = [_told(use, text) for use, text, _ in problems]
    error = forbidden(request.resource.gvr, name_of_request(request) or "Unknown", "")
    error.message = messages[0]
    error.reason = problems[0][2] or error.reason
    error.details = {**(error.details or {}), "causes": [{"message": one} for one in messages]}
    return error


def _told(use: Use[Changer], text: str) -> str:
    if use.binding is None:
        return f"policy '{use.policy.name}' denied request: {text}"
    return f"policy '{use.policy.name}' with binding '{use.binding.name}' denied request: {text}"
