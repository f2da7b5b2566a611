"""Logs of containers that do not exist, and what is said to those who want more."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from proa.apiserver.special.simulated import container_log, is_silent, is_simulated, refusal
from proa.meta.errors import StatusError
from proa.meta.objects import Obj

NOW = datetime(2026, 1, 1, 1, tzinfo=UTC)
ENDED = {
    "terminated": {
        "startedAt": "2026-01-01T00:00:00Z",
        "finishedAt": "2026-01-01T00:00:05Z",
        "exitCode": 3,
        "message": "no disk",
    }
}
FIRST = "simulated container c of image web:1 starts, run 1\nno disk\nsimulated container c ends with exit code 3\n"
SECOND = "simulated container c of image web:1 starts, run 2\n"


def pod(state: Obj, last: Obj | None = None, restarts: int = 0) -> Obj:
    status = {"name": "c", "image": "web:1", "state": state, "lastState": last or {}, "restartCount": restarts}
    return {"metadata": {"name": "p"}, "status": {"containerStatuses": [status]}}


RUNS_AGAIN = pod({"running": {"startedAt": "2026-01-01T00:00:16Z"}}, ENDED, 1)


@pytest.mark.parametrize(
    ("of", "options", "log"),
    [
        (RUNS_AGAIN, {}, SECOND),
        (RUNS_AGAIN, {"previous": "true"}, FIRST),
        (pod(ENDED), {}, FIRST),
        (pod({"waiting": {"reason": "CrashLoopBackOff"}}, ENDED), {}, FIRST),
        (pod({"waiting": {"reason": "CrashLoopBackOff"}}, ENDED), {"previous": "true"}, FIRST),
        (pod(ENDED), {"tailLines": "1"}, "simulated container c ends with exit code 3\n"),
        (pod(ENDED), {"tailLines": "0"}, ""),
        (pod(ENDED), {"tailLines": "9"}, FIRST),
        (pod(ENDED), {"limitBytes": "9"}, "simulated"),
        (pod(ENDED), {"sinceSeconds": "60"}, ""),
        (pod(ENDED), {"sinceTime": "2026-01-01T00:00:05Z"}, FIRST.partition("\n")[2]),
        (RUNS_AGAIN, {"timestamps": "true"}, f"2026-01-01T00:00:16Z {SECOND}"),
    ],
)
def test_logs(of: Obj, options: dict[str, str], log: str) -> None:
    assert container_log(of, "c", options, NOW).decode() == log


@pytest.mark.parametrize(
    ("of", "options", "complaint"),
    [
        (
            pod({"waiting": {"reason": "ErrImagePull"}}),
            {},
            'container "c" in pod "p" is waiting to start: ErrImagePull',
        ),
        (
            {"metadata": {"name": "p"}},
            {},
            'container "c" in pod "p" is waiting to start: ContainerCreating',
        ),
        (pod(ENDED), {"previous": "true"}, 'previous terminated container "c" in pod "p" not found'),
    ],
)
def test_containers_without_logs(of: Obj, options: dict[str, str], complaint: str) -> None:
    with pytest.raises(StatusError) as refused:
        container_log(of, "c", options, NOW)
    assert (refused.value.code, refused.value.message) == (400, complaint)


def test_who_can_be_talked_to() -> None:
    node = {"metadata": {"name": "n", "annotations": {"proa.dev/simulated": "true"}}}
    assert is_simulated(node) and not is_silent(node) and not is_simulated({"metadata": {"name": "n"}})
    error = refusal(node, "100.64.0.1:10250")
    assert (error.code, error.reason) == (501, "NotImplemented") and "node n is simulated" in error.message
    node["metadata"]["annotations"]["proa.dev/fault"] = "hang"  # type: ignore[index]
    assert refusal(node, "100.64.0.1:10250").message.endswith("dial tcp 100.64.0.1:10250: i/o timeout")
