"""What a container leaves behind: its message file, or the end of its log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proa.kubelet.cri.types import EXITED, Container
from proa.kubelet.messages import termination_message
from proa.kubelet.podspec import TERMINATION_POLICY

STAMP = b"2026-01-02T03:04:05.000000006Z stdout "


def container(**fields: Any) -> Container:
    known = {"id": "c", "sandbox_id": "s", "name": "main", "attempt": 0, "created_at": 0, "image": "", "image_ref": ""}
    return Container(**{**known, "state": EXITED, "exit_code": 1, **fields})


def ended(folder: Path, log: bytes, exit_code: int = 1, policy: str = "FallbackToLogsOnError") -> str:
    """The message of a container that left nothing but this log."""
    (folder / "0.log").write_bytes(log)
    left = container(exit_code=exit_code, log_path=str(folder / "0.log"), annotations={TERMINATION_POLICY: policy})
    return termination_message(left, folder / "none")


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (STAMP + b"F DONE\n", "DONE\n"),
        (STAMP + b"P DONE\n", "DONE"),  # no newline ended what it said
        (STAMP + b"P a\n" + STAMP + b"F b\n", "ab\n"),
        (STAMP + b"F one\rtwo\n", "one\rtwo\n"),
        (b"".join(STAMP + b"F %d\n" % number for number in range(100)), "".join(f"{n}\n" for n in range(20, 100))),
        (STAMP + b"F " + b"x" * 3000 + b"\n", "x" * 2047 + "\n"),
        (b"", ""),
    ],
)
def test_the_end_of_the_log(tmp_path: Path, log: bytes, message: str) -> None:
    assert ended(tmp_path, log) == message
    assert ended(tmp_path, log, exit_code=0) == ""
    assert ended(tmp_path, log, policy="File") == ""


def test_the_file_comes_first(tmp_path: Path) -> None:
    file = tmp_path / "message"
    file.write_bytes(b"OK" + b"x" * 5000)
    assert termination_message(container(), file) == "OK" + "x" * 4094
