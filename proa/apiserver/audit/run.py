"""Takes note of requests at each of their stages, as the policy says, and hands events to the backends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from proa.apiserver.answers import Answer, PlainAnswer
from proa.apiserver.audit import policy as policies
from proa.apiserver.audit.events import Encoder, Record, encode, without_managed_fields
from proa.apiserver.audit.logfile import FileBackend, LogFile
from proa.apiserver.audit.policy import COMPLETE, NONE, PANIC, RECEIVED, REQUEST, REQUEST_RESPONSE, STARTED, Policy
from proa.apiserver.audit.webhook import Webhook, WebhookBackend
from proa.apiserver.contracts import Attributes
from proa.apiserver.server import HttpCall
from proa.client.interface import ApiRequest, UserInfo
from proa.meta.errors import StatusError
from proa.meta.objects import Obj
from proa.util.clock import Clock

_OUTCOMES_MAX = 4096
_NOBODY = UserInfo("")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditOptions:
    """What is audited (`policy` None: metadata of all requests but probes') and where it goes."""

    policy: Path | None = None
    log: LogFile = field(default_factory=LogFile)
    webhook: Webhook = field(default_factory=Webhook)


class Backend(Protocol):
    """Where events go. `dropped` counts those that were lost."""

    name: str
    dropped: int

    def put(self, event: bytes) -> None: ...

    async def close(self) -> None: ...


class Audit:
    """The auditor of one server."""

    def __init__(self, policy: Policy, backends: Sequence[Backend], clock: Clock) -> None:
        self.events = 0
        self.levels: Counter[str] = Counter()
        self.backends = backends
        self._policy = policy
        self._clock = clock
        self._encoder = Encoder()
        self._outcomes: dict[tuple[object, ...], policies.Outcome] = {}

    async def close(self) -> None:
        for backend in self.backends:
            await backend.close()

    def begin(self, call: HttpCall) -> None:
        """Decides how a request is audited, once it is known who asks."""
        outcome = self._outcome(call)
        self.levels[policies.LEVELS[outcome.level]] += 1
        if outcome.level != NONE:
            call.audited = Record(outcome, call.audit_id, self._clock.now())
            self._emit(call, RECEIVED, 0)

    def _outcome(self, call: HttpCall) -> policies.Outcome:
        info, user = call.info, call.user
        group, _, resource = info.resource or ("", "", "")
        name = info.name if self._policy.by_name else ""
        path = info.path if info.resource is None else ""
        key = (user.name, user.groups, info.verb, group, resource, info.subresource, info.namespace, path, name)
        outcome = self._outcomes.get(key)
        if outcome is None:
            asked = Attributes(
                user=user,
                verb=info.verb,
                group=group,
                resource=resource,
                subresource=info.subresource,
                namespace=info.namespace,
                path=path,
                name=name,
            )
            if len(self._outcomes) >= _OUTCOMES_MAX:
                self._outcomes.clear()
            outcome = self._outcomes[key] = self._policy.decide(asked)
        return outcome

    def unauthenticated(self, call: HttpCall, error: StatusError) -> None:
        """Takes note of a request whose claim of an identity did not hold."""
        call.user = _NOBODY
        outcome = self._outcome(call)
        if outcome.level != NONE:
            call.audited = Record(outcome, call.audit_id, self._clock.now())
            call.audited.status = {"status": "Failure", "message": "Authentication failed", "reason": error.reason}
            self._emit(call, STARTED, error.code)

    def decoded(self, call: HttpCall, request: ApiRequest) -> None:
        """Takes note of what was sent, before anything changes it."""
        record, body = call.audited, request.body
        assert record is not None
        if isinstance(body, dict) and request.verb in ("create", "update"):
            meta = body.get("metadata")
            if isinstance(meta, dict):
                record.name, record.uid, record.version = (
                    value if isinstance(value := meta.get(key), str) else ""
                    for key in ("name", "uid", "resourceVersion")
                )
        if record.outcome.level >= REQUEST and body is not None:
            record.request_object = self._shown(record, body)

    def answered(self, call: HttpCall, answer: Answer) -> None:
        """Takes note of what is answered."""
        record = call.audited
        assert record is not None
        if isinstance(answer, PlainAnswer) and answer.obj.get("kind") == "Status":
            record.status = _status(answer.obj)
        if record.outcome.level >= REQUEST_RESPONSE:
            record.response_object = self._shown(record, answer.decoded())

    def refused(self, call: HttpCall, error: StatusError) -> None:
        """Takes note of the error that is answered."""
        record = call.audited
        assert record is not None
        status = error.to_status()
        record.status = _status(status)
        if record.outcome.level >= REQUEST_RESPONSE:
            record.response_object = encode(status)

    def panicked(self, call: HttpCall, error: Exception) -> None:
        """Takes note of a fault of the server's own."""
        record = call.audited
        assert record is not None
        text = f"APIserver panic'd: {error}"
        record.status = {"status": "Failure", "message": text, "reason": "InternalError"}
        self._emit(call, PANIC, 500)

    def started(self, call: HttpCall, code: int) -> None:
        """Takes note that an answer begins that may last for long."""
        self._emit(call, STARTED, code)

    def complete(self, call: HttpCall, code: int) -> None:
        """Takes note of the end; `code` 0: the client went away before."""
        self._emit(call, COMPLETE, code)

    def _emit(self, call: HttpCall, stage: str, code: int) -> None:
        record = call.audited
        assert record is not None
        if stage in record.outcome.omitted:
            return
        self.events += 1
        users = (call.user, None) if call.authenticated is None else (call.authenticated, call.user)
        event = self._encoder.event(
            record, stage, call.request, call.info, users, code, call.decision, call.annotations, self._clock.now()
        )
        for backend in self.backends:
            backend.put(event)

    @staticmethod
    def _shown(record: Record, value: Any) -> bytes:
        return encode(without_managed_fields(value) if record.outcome.omit_managed_fields else value)


def _status(status: Obj) -> Obj:
    """Returns what an event repeats of an answered Status."""
    return {key: status[key] for key in ("status", "message", "reason", "details") if status.get(key)}


def open_audit(options: AuditOptions, clock: Clock) -> Audit | None:
    """Returns the auditor, None if events would go nowhere; raises ValueError for a policy that cannot be used."""
    makers: list[Callable[[], Backend]] = []
    if options.log.path is not None:
        makers.append(lambda: FileBackend(options.log, clock))
    if options.webhook.config is not None:
        makers.append(lambda: WebhookBackend(options.webhook))
    if not makers:
        return None
    return Audit(policies.read(_loaded(options.policy)), [make() for make in makers], clock)


def _loaded(path: Path | None) -> Any:
    if path is None:
        return policies.DEFAULT
    import yaml

    try:
        return yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"the audit policy {path} cannot be read: {error}") from error
