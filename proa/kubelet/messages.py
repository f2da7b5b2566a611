"""What a container left behind when it ended: its termination message, or the end of its log.

Upstream's limits: 4096 bytes of the file; with FallbackToLogsOnError the last 80 lines, at most 2048 bytes, of the log.
"""

from __future__ import annotations

import os
from pathlib import Path

from proa.kubelet.cri.types import Container
from proa.kubelet.podspec import TERMINATION_POLICY

MESSAGE_BYTES_MAX = 4096
_LOG_BYTES_MAX, _LOG_LINES_MAX = 2048, 80


def termination_message(container: Container, file: Path) -> str:
    """Returns the message of an ended container; empty if it left none."""
    data = _head(file)
    if not data and container.exit_code and container.annotations.get(TERMINATION_POLICY) == "FallbackToLogsOnError":
        data = _log_end(Path(container.log_path))
    return data.decode("utf-8", "replace")


def _head(file: Path) -> bytes:
    # The container may have replaced the file by anything; only a plain file is read.
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    with os.fdopen(descriptor, "rb") as opened:
        return opened.read(MESSAGE_BYTES_MAX)


def _log_end(path: Path) -> bytes:
    try:
        with path.open("rb") as opened:
            size = opened.seek(0, os.SEEK_END)
            opened.seek(max(0, size - 4 * _LOG_BYTES_MAX))
            lines = opened.read().removesuffix(b"\n").split(b"\n")[-_LOG_LINES_MAX:]
    except OSError:
        return b""
    return b"".join(_text(line) for line in lines)[-_LOG_BYTES_MAX:]


def _text(line: bytes) -> bytes:
    """What the container wrote of a line of its log: `time stream tag text`. The tag P: no newline ended it."""
    parts = line.split(b" ", 3)
    if len(parts) < 4:
        return b""
    return parts[3] if parts[2].split(b":")[0] == b"P" else parts[3] + b"\n"
