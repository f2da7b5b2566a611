"""Whether a request runs now, waits or is refused, and which waiting one runs next: one priority level's decisions.

Pure: time is an argument, in seconds of any clock that only goes forward. Follows upstream's `fairqueuing/queueset`: a
flow is dealt a hand of queues by its hash (shuffle sharding), its requests join the least loaded of them, and queues
take turns by virtual time, so that each gets the same part of the level's seats however many requests wait in it.

A level that nobody waits for counts seats and nothing else: that is the path of almost every request.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from proa.apiserver.fairness.shares import Bounds, Demand, Observed
from proa.util.histogram import Histogram

_SERVICE_SECONDS = 0.003  # what a level's first request is thought to take until it has ended
_SERVICE_WEIGHT = 0.1  # of one request in the average that later ones are thought to take
QUEUE_FULL, NO_SEATS, TIME_OUT, CANCELLED = "queue-full", "concurrency-limit", "time-out", "cancelled"
_RETRY_SECONDS_MAX = 32
_WAITS = (0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30)
_RUNS = (0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30)


@dataclass(frozen=True, slots=True)
class Queuing:
    """How a level queues; `queues` 0: it refuses instead."""

    queues: int = 0
    hand_size: int = 0
    length_max: int = 0


class Queue:
    """Requests of the flows that were dealt this queue. `next_start` is the virtual time at which its next starts."""

    __slots__ = ("executing", "next_start", "seats", "turn", "waiting", "waiting_seats")

    def __init__(self) -> None:
        self.waiting: deque[Ticket] = deque()
        self.waiting_seats = 0
        self.executing = 0
        self.seats = 0
        self.next_start = 0.0
        self.turn = 0  # when it last had one

    @property
    def load(self) -> int:
        return self.waiting_seats + self.seats


class Ticket:
    """A request that waits, or has waited. `waiter` is for whoever wakes it."""

    __slots__ = ("arrived", "estimate", "flow", "queue", "started", "virtual", "waiter", "width")

    def __init__(self, flow: Flow, queue: Queue, width: int, now: float, virtual: float) -> None:
        self.flow = flow
        self.queue = queue
        self.width = width
        self.arrived = now
        self.virtual = virtual
        self.started = 0.0
        self.estimate = 0.0
        self.waiter: Any = None


@dataclass(slots=True)
class Stats:
    """What one FlowSchema's requests do in one priority level."""

    schema: str
    level: str
    dispatched: int = 0
    executing: int = 0
    seats: int = 0
    waiting: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    wide: Counter[int] = field(default_factory=Counter)  # requests of more than one seat, by seats
    lengths: Counter[int] = field(default_factory=Counter)  # of its queue, when a request joined it
    # Seconds in a queue, of requests that ran and that did not; seconds of running, of those that had waited or not.
    waited: Histogram = field(default_factory=lambda: Histogram(_WAITS))
    gave_up: Histogram = field(default_factory=lambda: Histogram(_WAITS))
    ran: Histogram = field(default_factory=lambda: Histogram(_RUNS))


class Flow:
    """Requests that are alike to fairness: one schema, one distinguisher."""

    __slots__ = ("distinguisher", "hand", "head", "level", "mutating", "stats")

    def __init__(self, level: Level, stats: Stats, distinguisher: str, head: bytes) -> None:
        self.level = level
        self.stats = stats
        self.distinguisher = distinguisher
        self.head = head
        self.mutating = False
        self.hand: tuple[Queue, ...] = ()


class Level:
    """One priority level. Invariant: while a request waits, none that arrives later in the same queue runs."""

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.exempt = False
        self.queuing = Queuing()
        self.queues: list[Queue] = []
        self.bounds = Bounds(0, 0, 0)
        self.limit = 0
        self.in_use = 0
        self.executing = 0
        self.waiting = 0
        self.waiting_seats = 0
        self.returned = 0  # seats of finished requests that are given back with the next `settle`
        self.not_accommodated = 0
        self.demand = Demand(now)
        self.smoothed = 0.0
        self.target = 0.0
        self.observed = Observed()
        self.retry = RetryAfter()
        self._active: dict[Queue, None] = {}  # with requests that wait or execute
        self._service_seconds = _SERVICE_SECONDS
        self._virtual = 0.0
        self._advanced = now
        self._turns = 0

    def configure(self, queuing: Queuing, bounds: Bounds, *, exempt: bool) -> None:
        """Takes over a changed configuration; queues that it no longer has are served until they are empty."""
        if queuing.queues != self.queuing.queues:
            self.queues = self.queues[: queuing.queues]
            self.queues += [Queue() for _ in range(queuing.queues - len(self.queues))]
        if bounds != self.bounds:
            self.limit = max(bounds.nominal, 1)
        self.queuing, self.bounds, self.exempt = queuing, bounds, exempt

    def fits(self, width: int) -> bool:
        """Whether so many seats are free; a request wider than the limit runs alone."""
        return self.in_use + width <= self.limit or not self.in_use

    def admit(self, width: int) -> bool:
        """Takes seats at once if nobody waits for them; the path of almost every request."""
        in_use = self.in_use
        if self.exempt or (not self.waiting and (in_use + width <= self.limit or not in_use)):
            self.in_use = in_use + width
            self.executing += 1
            return True
        return False

    def arrive(self, flow: Flow, width: int, now: float) -> Ticket | str:
        """Decides on a request that was not admitted: a place in a queue, or the reason why it is refused."""
        if not self.queuing.queues:
            return NO_SEATS
        if not flow.hand:
            dealt = hand(f"{flow.stats.schema}\0{flow.distinguisher}", len(self.queues), self.queuing.hand_size)
            flow.hand = tuple(self.queues[index] for index in dealt)
        queue = min(flow.hand, key=lambda one: one.load)
        if len(queue.waiting) >= self.queuing.length_max:
            return QUEUE_FULL
        self._advance(now)
        if queue not in self._active:
            self._active[queue] = None
            queue.next_start = max(queue.next_start, self._virtual)
        ticket = Ticket(flow, queue, width, now, self._virtual)
        queue.waiting.append(ticket)
        queue.waiting_seats += width
        self.waiting += 1
        self.waiting_seats += width
        return ticket

    def dispatch(self, now: float) -> list[Ticket]:
        """Returns the waiting requests that run now, their seats taken."""
        if not self.waiting:
            return []
        self._advance(now)
        found = []
        while self.waiting:
            queue = min((one for one in self._active if one.waiting), key=lambda one: (one.next_start, one.turn))
            ticket = queue.waiting[0]
            if not self.fits(ticket.width):
                self.not_accommodated += 1
                break
            self._leave_queue(ticket)
            queue.executing += 1
            queue.seats += ticket.width
            # A queue that could have had more turns than it had requests has not saved them up.
            queue.next_start = max(queue.next_start, ticket.virtual) + ticket.width * self._service_seconds
            ticket.estimate = self._service_seconds
            self._turns += 1
            queue.turn = self._turns
            ticket.started = now
            self.in_use += ticket.width
            self.executing += 1
            found.append(ticket)
        return found

    def withdraw(self, ticket: Ticket, now: float) -> None:
        """Takes a waiting request out of its queue."""
        self._advance(now)
        self._leave_queue(ticket)
        self._rest(ticket.queue)

    def finish(self, width: int, ticket: Ticket | None, now: float) -> None:
        """Notes that a request has ended; `ticket` is that of one that had waited.

        Its seats come back with the next `settle`: whoever runs all requests in one thread calls that when the thread
        has had a look at what else arrived, so that seats limit how much work it takes on before that.
        """
        self.executing -= 1
        if self.exempt:
            self.in_use -= width
        else:
            self.returned += width
        if ticket is not None:
            self._advance(now)
            queue = ticket.queue
            queue.executing -= 1
            queue.seats -= width
            seconds = max(now - ticket.started, 0.0)
            queue.next_start += width * (seconds - ticket.estimate)
            self._service_seconds += _SERVICE_WEIGHT * (seconds - self._service_seconds)
            self._rest(queue)

    def settle(self, now: float) -> None:
        """Gives back the seats of finished requests."""
        self.demand.observe(self.in_use + self.waiting_seats, now)
        self.in_use -= self.returned
        self.returned = 0
        self.demand.observe(self.in_use + self.waiting_seats, now)

    def active_queues(self) -> int:
        return sum(1 for queue in self._active if queue.waiting)

    def _leave_queue(self, ticket: Ticket) -> None:
        queue = ticket.queue
        queue.waiting.remove(ticket)
        queue.waiting_seats -= ticket.width
        self.waiting -= 1
        self.waiting_seats -= ticket.width

    def _rest(self, queue: Queue) -> None:
        if not queue.waiting and not queue.executing:
            self._active.pop(queue, None)

    def _advance(self, now: float) -> None:
        """Virtual time goes on at the pace at which each active queue is served."""
        elapsed, self._advanced = now - self._advanced, now
        if elapsed > 0 and self._active:
            asked = sum(queue.load for queue in self._active)
            self._virtual += elapsed * min(asked, self.limit) / len(self._active)


class RetryAfter:
    """How long refused clients are told to wait: longer while many are refused, as upstream tells them."""

    __slots__ = ("_counts", "_raised", "seconds")

    def __init__(self) -> None:
        self.seconds = 1
        self._counts: dict[int, int] = {}  # refused requests by second
        self._raised = 0

    def refused(self, now: float) -> int:
        """Notes a refusal; returns the seconds to wait."""
        second = int(now)
        if second in self._counts:
            self._counts[second] += 1
            return self.seconds
        recent = sum(count for at, count in self._counts.items() if second - at <= self.seconds)
        if second - self._raised >= self.seconds and recent >= 3 * self.seconds:
            self.seconds = min(2 * self.seconds, _RETRY_SECONDS_MAX)
            self._raised = second
        elif recent < self.seconds and self.seconds > 1:
            self.seconds -= 1
        self._counts = {at: count for at, count in self._counts.items() if second - at <= _RETRY_SECONDS_MAX}
        self._counts[second] = 1
        return self.seconds


def hand(flow: str, deck: int, size: int) -> Sequence[int]:
    """Deals a flow its queues: `size` different numbers below `deck`, the same every time."""
    entropy = int.from_bytes(sha256(flow.encode()).digest()[:8], "little")
    dealt: list[int] = []
    for count in range(min(size, deck)):
        entropy, card = divmod(entropy, deck - count)
        for earlier in sorted(dealt):
            if card >= earlier:
                card += 1
        dealt.append(card)
    return dealt
