"""Keeps a cluster's processes running: starts them in order, writes their output to files, restarts what ends.

`proa up` starts one supervisor per cluster, detached. It reads its plan (`RunPlan`, JSON) once, sleeps in the kernel
until a child ends or a signal comes, and costs no time in between. SIGTERM stops the processes, newest first.
`processes.json` in the run directory names every process with its start time, so that a later `proa down` finds them
even if all of this was killed. Standard library only: it is the smallest process of the cluster and stays so.

A node's containerd may take long to stop or be killed; containers live on in their shims and the next containerd, or
`proa down`, finds them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

_RESTART_SECONDS_MIN = 0.1
_RESTART_SECONDS_MAX = 10.0
_STABLE_SECONDS = 30.0  # a process that lived this long starts again at once
_STOP_SECONDS = 10.0
_LOG_BYTES_MAX = 20 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One process to keep running. Its output is appended to `log`."""

    name: str
    command: Sequence[str]
    log: str
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """What a supervisor runs, in starting order. `run` is the cluster's run directory."""

    run: str
    programs: Sequence[Program]

    def dump(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def load(cls, text: str) -> RunPlan:
        data: dict[str, Any] = json.loads(text)
        return cls(run=data["run"], programs=[Program(**one) for one in data["programs"]])


@dataclass(slots=True)
class _Child:
    program: Program
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    delay: float = 0.0  # seconds until the next start after an end
    due: float | None = 0.0  # when to start next; None while it runs


def ticks_at_start(pid: int) -> int:
    """Returns a process's start time in clock ticks since boot (see `state.Process`)."""
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[19])


class Supervisor:
    """Runs a plan until it is told to stop."""

    def __init__(self, plan: RunPlan, output: TextIO = sys.stderr) -> None:
        self.plan = plan
        self.output = output
        self.children = [_Child(program) for program in plan.programs]

    def run(self) -> None:
        """Returns once SIGTERM or SIGINT came and everything has stopped."""
        signals = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        self.say(f"supervising {len(self.children)} processes")
        while True:
            self._reap()
            self._start_due()
            dues = [child.due for child in self.children if child.due is not None]
            wait = max(0.0, min(dues) - time.monotonic()) if dues else 3600.0
            received = signal.sigtimedwait(signals, wait)
            if received and received.si_signo in (signal.SIGTERM, signal.SIGINT):
                break
        self._stop()

    def say(self, text: str) -> None:
        print(time.strftime("%Y-%m-%dT%H:%M:%S"), text, file=self.output, flush=True)

    def _start_due(self) -> None:
        now = time.monotonic()
        changed = False
        for child in self.children:
            if child.due is not None and child.due <= now:
                self._start(child, now)
                changed = True
        if changed:
            self._record()

    def _start(self, child: _Child, now: float) -> None:
        program = child.program
        log = Path(program.log)
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size > _LOG_BYTES_MAX:
            log.replace(log.with_name(log.name + ".old"))
        environment = {**os.environ, **program.environment, "PROA_CLUSTER_RUN": self.plan.run}
        with open(log, "ab") as output:
            try:
                child.process = subprocess.Popen(
                    list(program.command),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=environment,
                    start_new_session=True,
                    preexec_fn=_unblock_signals,
                )
            except OSError as error:
                self.say(f"{program.name} cannot start: {error}")
                child.delay = min(max(child.delay * 2, _RESTART_SECONDS_MIN), _RESTART_SECONDS_MAX)
                child.due = now + child.delay
                return
        child.started, child.due = now, None

    def _reap(self) -> None:
        now = time.monotonic()
        for child in self.children:
            if child.process is None or child.process.poll() is None:
                continue
            lived = now - child.started
            child.delay = min(max(child.delay * 2, _RESTART_SECONDS_MIN), _RESTART_SECONDS_MAX)
            if lived > _STABLE_SECONDS:
                child.delay = 0.0
            child.due = now + child.delay
            code = child.process.returncode
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            self.say(f"{child.program.name} {how} after {lived:.1f} s; starting it again in {child.delay:.1f} s")
            child.process = None

    def _record(self) -> None:
        """Writes who runs, atomically."""
        entries = {"supervisor": {"pid": os.getpid(), "started": ticks_at_start(os.getpid())}}
        for child in self.children:
            if child.process is not None and child.process.poll() is None:
                pid = child.process.pid
                entries[child.program.name] = {"pid": pid, "started": ticks_at_start(pid)}
        partial = Path(self.plan.run) / ".processes.json"
        partial.write_text(json.dumps(entries))
        partial.replace(Path(self.plan.run) / "processes.json")

    def _stop(self) -> None:
        self.say("stopping")
        for child in reversed(self.children):
            if child.process is None or child.process.poll() is not None:
                continue
            child.process.terminate()
            try:
                child.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.say(f"{child.program.name} does not stop; killing it")
                child.process.kill()
                child.process.wait()


def _unblock_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def start_detached(plan: RunPlan, log: Path) -> int:
    """Starts a supervisor that outlives this process; returns its pid."""
    run = Path(plan.run)
    run.mkdir(parents=True, exist_ok=True, mode=0o711)
    (run / "plan.json").write_text(plan.dump())
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-S", "-E", __file__, str(run / "plan.json")],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env={**os.environ, "PROA_CLUSTER_RUN": plan.run},
            start_new_session=True,
        )
    return process.pid


if __name__ == "__main__":
    Supervisor(RunPlan.load(Path(sys.argv[1]).read_text())).run()
