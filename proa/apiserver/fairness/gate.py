"""The door through which requests go: `plan` decides, this lets them run, wait or leave, and follows the configuration.

All handlers run on one event loop, and most of them run to their end in one go, so at any moment hardly a request would
be counted as under way, however many are waiting for the loop. Seats are therefore given back at the end of the loop's
turn: a level takes on at most its seats' worth of work before the loop looks at its sockets again, and a flood delays
others by no more than that. Nobody waits, and nothing but two counters moves, while a level has free seats.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from itertools import chain

from proa.apis.flowcontrol import bootstrap
from proa.apiserver.contracts import Attributes
from proa.apiserver.fairness.classify import Schema, classify, compiled
from proa.apiserver.fairness.plan import CANCELLED, TIME_OUT, Flow, Level, Queuing, Stats, Ticket
from proa.apiserver.fairness.shares import ADJUST_SECONDS, Asking, Shares, adjust, bounds
from proa.client.interface import UserInfo
from proa.meta.errors import StatusError, too_many_requests
from proa.meta.objects import Obj, name_of

QUEUE_SECONDS_MAX = 15.0
SENDING_SECONDS_MAX = 3.0
_FLOWS_MAX = 4096
_UNLIMITED = 1 << 20
_READING = frozenset({"get", "list", "watch", "head", "options"})
_MANDATORY = ("exempt", "catch-all")


class Seat:
    """What a request holds while it runs; `leave` may be called more than once."""

    __slots__ = ("_gate", "flow", "left", "ticket", "width")

    def __init__(self, gate: Gate, flow: Flow, width: int, ticket: Ticket | None) -> None:
        self._gate = gate
        self.flow = flow
        self.width = width
        self.ticket = ticket
        self.left = False

    def leave(self, seconds: float = 0.0) -> None:
        """Says that the request has ended, after so many seconds."""
        if not self.left:
            self.left = True
            self._gate.leave(self, seconds)

    def until_sent(self) -> Callable[[], None]:
        """Keeps the seats while a large answer is being sent, but not for long: who reads slowly must not keep others
        waiting. Returns what is to be called once it is sent."""
        timer = asyncio.get_running_loop().call_later(SENDING_SECONDS_MAX, self.leave)

        def sent() -> None:
            timer.cancel()
            self.leave()

        return sent


class Gate:
    """Priority and fairness of one server with so many seats (0: no limit)."""

    def __init__(self, server_seats: int) -> None:
        self.server_seats = server_seats or _UNLIMITED
        self.levels: dict[str, Level] = {}
        self.stats: dict[tuple[str, str], Stats] = {}
        self.fair_proportion = 0.0
        self.reading = 0
        self.mutating = 0
        self._schemas: list[Schema] = []
        self._level_uids: dict[str, str] = {}
        self._flows: dict[tuple[object, ...], Flow] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._touched: dict[Level, None] = {}
        self._adjuster: asyncio.TimerHandle | None = None
        self.configure((), ())

    # ------------------------------------------------------------ configuration

    def configure(self, levels: Iterable[Obj], schemas: Iterable[Obj]) -> None:
        """Takes over PriorityLevelConfigurations and FlowSchemas; the mandatory ones hold even if they are missing."""
        now = self.now()
        given = {name_of(obj): obj for obj in chain(_mandatory(bootstrap.priority_levels()), levels)}
        shares = {name: _shares(obj) for name, obj in given.items()}
        divided = bounds(shares, self.server_seats)
        before, self.levels = self.levels, {}
        for name, obj in given.items():
            level = self.levels[name] = before.get(name) or Level(name, now)
            level.configure(_queuing(obj), divided[name], exempt=shares[name].exempt)
        self._level_uids = {name: (obj.get("metadata") or {}).get("uid") or "" for name, obj in given.items()}
        named = {name_of(obj): obj for obj in chain(_mandatory(bootstrap.flow_schemas()), schemas)}
        self._schemas = compiled(named.values(), self.levels)
        self._flows.clear()
        self._wake(self.levels.values(), now)

    # ------------------------------------------------------------ requests

    def flow(
        self,
        user: UserInfo,
        verb: str,
        group: str = "",
        resource: str = "",
        subresource: str = "",
        namespace: str = "",
        path: str = "",
    ) -> Flow:
        """Returns the flow of a request; the same object for the next one like it."""
        key = (user.name, user.groups, verb, group, resource, subresource, namespace, path)
        flow = self._flows.get(key)
        if flow is None:
            asked = Attributes(
                user=user,
                verb=verb,
                group=group,
                resource=resource,
                subresource=subresource,
                namespace=namespace,
                path=path,
            )
            flow = self._make_flow(asked)
            if len(self._flows) >= _FLOWS_MAX:
                self._flows.clear()
            self._flows[key] = flow
        return flow

    def _make_flow(self, asked: Attributes) -> Flow:
        schema = classify(self._schemas, asked)
        stats = self.stats.get((schema.name, schema.level))
        if stats is None:
            stats = self.stats[(schema.name, schema.level)] = Stats(schema.name, schema.level)
        head = ""
        if schema.uid:
            head = f"X-Kubernetes-Pf-Flowschema-Uid: {schema.uid}\r\n"
            head += f"X-Kubernetes-Pf-Prioritylevel-Uid: {self._level_uids[schema.level]}\r\n"
        flow = Flow(self.levels[schema.level], stats, schema.distinguisher(asked), head.encode())
        flow.mutating = asked.verb not in _READING
        return flow

    def enter(self, flow: Flow, width: int) -> Seat | None:
        """Returns the request's seats, None if it has to `wait`."""
        if not flow.level.admit(width):
            return None
        return self._seated(flow, width, None)

    async def wait(self, flow: Flow, width: int) -> Seat:
        """Waits for seats; raises the 429 StatusError if the queue is full or the wait too long."""
        loop, level, stats = self._running_loop(), flow.level, flow.stats
        outcome = level.arrive(flow, width, loop.time())
        if isinstance(outcome, str):
            raise self._refused(flow, outcome)
        stats.lengths[len(outcome.queue.waiting)] += 1
        stats.waiting += 1
        outcome.waiter = loop.create_future()
        timer = loop.call_later(QUEUE_SECONDS_MAX, self._expire, outcome)
        try:
            runs = await outcome.waiter
        except asyncio.CancelledError:
            stats.refused[CANCELLED] += 1
            if outcome.started:  # it was woken, and its client is gone
                level.finish(width, outcome, loop.time())
                self._touch(level)
            else:
                level.withdraw(outcome, loop.time())
            raise
        finally:
            timer.cancel()
            stats.waiting -= 1
        seconds = loop.time() - outcome.arrived
        if not runs:
            stats.gave_up.observe(seconds)
            raise self._refused(flow, TIME_OUT)
        stats.waited.observe(seconds)
        return self._seated(flow, width, outcome)

    def leave(self, seat: Seat, seconds: float) -> None:
        """See `Seat.leave`."""
        flow, width, ticket = seat.flow, seat.width, seat.ticket
        stats, level = flow.stats, flow.level
        stats.executing -= 1
        stats.seats -= width
        if flow.mutating:
            self.mutating -= 1
        else:
            self.reading -= 1
        stats.ran.observe(seconds)
        if level.exempt and level.in_use > level.demand.high:
            level.demand.high = level.in_use
        level.finish(width, ticket, 0.0 if ticket is None else self.now())
        if not level.exempt:
            self._touch(level)

    def _seated(self, flow: Flow, width: int, ticket: Ticket | None) -> Seat:
        stats = flow.stats
        stats.dispatched += 1
        stats.executing += 1
        stats.seats += width
        if flow.mutating:
            self.mutating += 1
        else:
            self.reading += 1
        if width > 1:
            stats.wide[width] += 1
        return Seat(self, flow, width, ticket)

    def _refused(self, flow: Flow, reason: str) -> StatusError:
        flow.stats.refused[reason] += 1
        seconds = flow.level.retry.refused(self.now())
        return too_many_requests("Too many requests, please try again later.", seconds)

    # ------------------------------------------------------------ turns

    def _touch(self, level: Level) -> None:
        if not self._touched:
            self._running_loop().call_soon(self._turn)
        self._touched[level] = None

    def _turn(self) -> None:
        """Gives back the seats of the loop's turn that has ended, and lets waiting requests have them."""
        touched, self._touched = self._touched, {}
        loop = self._running_loop()
        now = loop.time()
        for level in touched:
            level.settle(now)
        self._wake(touched, now)
        if self._adjuster is None:
            self._adjuster = loop.call_later(ADJUST_SECONDS, self._adjust)

    def _wake(self, levels: Iterable[Level], now: float) -> None:
        for level in levels:
            for ticket in level.dispatch(now):
                if not ticket.waiter.done():
                    ticket.waiter.set_result(True)

    def _expire(self, ticket: Ticket) -> None:
        if not ticket.waiter.done():
            ticket.flow.level.withdraw(ticket, self.now())
            ticket.waiter.set_result(False)

    def _adjust(self) -> None:
        """Moves limits between levels; comes again only while there is anything to adjust."""
        loop = self._running_loop()
        now, self._adjuster = loop.time(), None
        asking = {
            name: Asking(level.bounds, level.demand.take(now), level.smoothed, level.exempt)
            for name, level in self.levels.items()
        }
        allotted, self.fair_proportion = adjust(asking)
        for name, level in self.levels.items():
            one = allotted[name]
            level.limit, level.smoothed, level.target, level.observed = (
                one.current,
                one.smoothed,
                one.target,
                one.observed,
            )
        self._wake(self.levels.values(), now)
        if any(one.observed.high for one in asking.values()):
            self._adjuster = loop.call_later(ADJUST_SECONDS, self._adjust)

    def close(self) -> None:
        if self._adjuster is not None:
            self._adjuster.cancel()

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    def now(self) -> float:
        """Returns the time that tickets carry, in seconds."""
        return 0.0 if self._loop is None else self._loop.time()


def _mandatory(objects: Iterable[Obj]) -> list[Obj]:
    return [obj for obj in objects if name_of(obj) in _MANDATORY]


def _shares(level: Obj) -> Shares:
    spec = level.get("spec") or {}
    exempt = spec.get("type") == "Exempt"
    limits = spec.get("exempt" if exempt else "limited") or {}
    nominal = limits.get("nominalConcurrencyShares")
    if nominal is None:
        nominal = 0 if exempt else 30
    return Shares(nominal, limits.get("lendablePercent") or 0, limits.get("borrowingLimitPercent"), exempt)


def _queuing(level: Obj) -> Queuing:
    response = ((level.get("spec") or {}).get("limited") or {}).get("limitResponse") or {}
    given = response.get("queuing") or {}
    if response.get("type") != "Queue":
        return Queuing()
    return Queuing(given.get("queues") or 64, given.get("handSize") or 8, given.get("queueLengthLimit") or 50)
