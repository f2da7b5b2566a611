"""`python -m benchmarks [NAME…]`: takes the measures named (all by default) and prints one table of their figures."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator

    "managed-fields": ownership.status_updates,
