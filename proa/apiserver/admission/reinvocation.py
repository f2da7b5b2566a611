"""Who is asked again in a second round of mutation: what other hooks changed objects after, if it wants to be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from proa.apiserver.contracts import AdmissionRequest, Reinvocation
from proa.meta.objects import Obj, copy_object


@dataclass(slots=True)
class Rounds:
    """What a plugin (`of` its name) remembers of a request from one round to the next."""

    shared: Reinvocation
    # Hooks that want to be asked again and were asked; those of them after which something changed; what came out.
    _asked: set[Any] = field(default_factory=set)
    _again: set[Any] = field(default_factory=set)
    _output: Obj | None = None

    @classmethod
    def of(cls, request: AdmissionRequest, plugin: str) -> Rounds:
        if request.reinvocation is None:
            request.reinvocation = Reinvocation()
        memory = request.reinvocation.memory
        if plugin not in memory:
            memory[plugin] = cls(request.reinvocation)
        found: Rounds = memory[plugin]
        return found

    def begin(self, obj: Obj | None) -> None:
        """A second round begins: if something else changed the object since, whoever wants to is asked again."""
        if self.shared.running and obj != self._output:
            self._ask_again()

    def wants(self, hook: Any) -> bool:
        """Tells whether a hook is to be asked in this round."""
        return not self.shared.running or hook in self._again

    def asked(self, hook: Any, *, changed: bool, reinvocable: bool) -> None:
        """A hook was asked, and perhaps changed the object."""
        if changed:
            self.changed()
        if reinvocable:
            self._asked.add(hook)

    def changed(self) -> None:
        self._ask_again()
        self.shared.wanted = True

    def end(self, obj: Obj | None) -> None:
        """The round ends with this object."""
        if not self.shared.running:
            self._output = copy_object(obj)

    def _ask_again(self) -> None:
        self._again |= self._asked
        self._asked.clear()
