"""/debug/api_priority_and_fairness/dump_*: tables of levels, queues and waiting requests, in upstream's columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta

from proa.apiserver.fairness.gate import Gate
from proa.apiserver.server import TEXT, HttpCall, HttpServer
from proa.util.clock import Clock, rfc3339_micro
from proa.wire.http import Response

_PATH = "/debug/api_priority_and_fairness"
_LEVELS = ("PriorityLevelName", "ActiveQueues", "IsIdle", "IsQuiescing", "WaitingRequests", "ExecutingRequests")
_QUEUES = (
    *("PriorityLevelName", "Index", "PendingRequests", "ExecutingRequests", "SeatsInUse", "NextDispatchR"),
    *("InitialSeatsSum", "MaxSeatsSum", "TotalWorkSum"),
)
_REQUESTS = (
    *("PriorityLevelName", "FlowSchemaName", "QueueIndex", "RequestIndexInQueue", "FlowDistingsher", "ArriveTime"),
    *("InitialSeats", "FinalSeats", "AdditionalLatency"),
)


def install(server: HttpServer, gate: Gate, clock: Clock) -> None:
    """Serves the dumps."""

    async def levels(call: HttpCall) -> Response:
        rows = (
            (one.name, *("<none>",) * 5)
            if one.exempt
            else (one.name, one.active_queues(), _bool(not one.executing and not one.waiting), "false")
            + (one.waiting, one.executing)
            for one in gate.levels.values()
        )
        return _table(_LEVELS, rows)

    async def queues(call: HttpCall) -> Response:
        return _table(_QUEUES, _queue_rows(gate))

    async def requests(call: HttpCall) -> Response:
        return _table(_REQUESTS, _request_rows(gate, clock))

    for name, handler in (("priority_levels", levels), ("queues", queues), ("requests", requests)):
        server.paths[f"{_PATH}/dump_{name}"] = handler


def _queue_rows(gate: Gate) -> Iterator[tuple[object, ...]]:
    for level in gate.levels.values():
        for index, queue in enumerate(level.queues):
            seats = queue.waiting_seats
            yield (
                *(level.name, index, len(queue.waiting), queue.executing, queue.seats),
                *(f"{queue.next_start:.8f}ss", seats, seats, f"{seats * 0.003:.8f}ss"),
            )


def _request_rows(gate: Gate, clock: Clock) -> Iterator[tuple[object, ...]]:
    now, monotonic = clock.now(), gate.now()
    for level in gate.levels.values():
        for index, queue in enumerate(level.queues):
            for place, ticket in enumerate(queue.waiting):
                arrived = rfc3339_micro(now - timedelta(seconds=monotonic - ticket.arrived))
                flow = ticket.flow
                yield (
                    *(level.name, flow.stats.schema, index, place, flow.distinguisher, arrived),
                    *(ticket.width, 0, "0s"),
                )


def _bool(value: bool) -> str:
    return "true" if value else "false"


def _table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> Response:
    """Returns rows as upstream's tab writer aligns them: cells padded with spaces, with commas between."""
    cells = [[str(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(7, *(len(row[index]) + 1 for row in cells)) for index in range(len(cells[0]))]
    lines = [
        " ".join([f"{cell},".ljust(width) for cell, width in zip(row[:-1], widths, strict=False)] + [row[-1]])
        for row in cells
    ]
    return Response(headers=[("Content-Type", TEXT)], body=("\n".join(lines) + "\n").encode())
