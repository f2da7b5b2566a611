"""How many seats a request takes: as many as it has hundreds of objects to show, within what its level can spare.

As upstream's list estimator. A mutating request takes one seat, its watchers' events none: an event is encoded once for
all of them, and sending it is no part of the request here.
"""

from __future__ import annotations

OBJECTS_PER_SEAT = 100
_SEATS_MAX = 100
_LEVEL_PART_MAX = 0.15


def list_width(objects: int, limit: int, nominal_seats: int) -> int:
    """Returns the seats of a list (or of a watch that begins with one); `limit` 0: of all objects."""
    shown = min(objects, limit) if limit > 0 else objects
    return max(1, min(-(-shown // OBJECTS_PER_SEAT), _SEATS_MAX, int(nominal_seats * _LEVEL_PART_MAX)))
