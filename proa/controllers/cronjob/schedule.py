"""Cron schedules (pure): upstream's extensions over cronsim, and the times that were due since a moment.

`@hourly` and its like, `@every 1h30m`, a `CRON_TZ=` or `TZ=` prefix; the CronJob's own time zone otherwise, else UTC.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

_NAMED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)")
_SPAN_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
MISSED_MAX = 100
_FOLD_MAX = timedelta(hours=3)  # no clock is turned back further


def is_zone(name: str) -> bool:
    """Tells whether there is a time zone of that name."""
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        return False
    return True


class Schedule:
    """A parsed schedule; raises ValueError for one that is malformed or a zone that is unknown."""

    def __init__(self, text: str, zone: str | None) -> None:
        prefix = re.match(r"(?:CRON_)?TZ=(\S+)\s+", text)
        if prefix:
            zone, text = prefix[1], text[prefix.end() :]
        try:
            self._zone: tzinfo = ZoneInfo(zone) if zone and zone != "UTC" else UTC
        except (KeyError, OSError, ValueError) as error:
            raise ValueError(f"unknown time zone {zone!r}") from error
        self._every: timedelta | None = None
        text = text.strip()
        if text.startswith("@every "):
            self._every = _span(text.removeprefix("@every ").strip())
            return
        self._text = _NAMED.get(text, text).replace("?", "*")
        try:
            CronSim(self._text, datetime(2026, 1, 1, tzinfo=UTC))
        except CronSimError as error:
            raise ValueError(f"malformed schedule {text!r}: {error}") from error

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Yields the times later than `moment`, in UTC, ascending."""
        if self._every is not None:
            due = moment.replace(microsecond=0)
            while True:
                due += self._every
                yield due
        if self._zone is UTC:
            yield from CronSim(self._text, moment.astimezone(UTC))
        yield from self._on_the_clock(moment)

    def _on_the_clock(self, moment: datetime) -> Iterator[datetime]:
        """Follows the zone's clocks as upstream does: a time that they skip is skipped, one shown twice comes twice."""
        waiting: list[datetime] = []
        begin = moment.astimezone(self._zone).replace(tzinfo=None) - _FOLD_MAX
        for wall in CronSim(self._text, begin):
            first, second = (wall.replace(tzinfo=self._zone, fold=fold).astimezone(UTC) for fold in (0, 1))
            if first.astimezone(self._zone).replace(tzinfo=None) == wall:
                heapq.heappush(waiting, first)
                if second != first:
                    heapq.heappush(waiting, second)
            while waiting and waiting[0] <= first:
                found = heapq.heappop(waiting)
                if found > moment:
                    yield found


def _span(text: str) -> timedelta:
    parts = _SPAN.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"malformed duration {text!r}")
    seconds = sum(float(number) * _SPAN_SECONDS[unit] for number, unit in parts)
    return timedelta(seconds=max(1, round(seconds)))


def due(schedule: Schedule, since: datetime, now: datetime) -> tuple[datetime | None, int, datetime]:
    """Returns the latest time due in (since, now], how many were (counted up to MISSED_MAX + 1), and the next one."""
    latest, count = None, 0
    for moment in schedule.after(since):
        if moment > now:
            return latest, count, moment
        latest, count = moment, count + 1
        if count > MISSED_MAX:
            break
    # Too many to count one by one: look back from now, further and further.
    span = timedelta(minutes=1)
    while latest is not None and now - span > latest:
        found = None
        for moment in schedule.after(now - span):
            if moment > now:
                if found is not None:
                    return found, count, moment
                break
            found = moment
        span *= 4
    return latest, count, next(schedule.after(now))
