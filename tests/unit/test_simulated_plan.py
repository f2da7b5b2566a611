"""Lives of pods on simulated nodes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from proa.kubelet.simulated.life import FOREVER, Life, Pull, Run, Uniform, draw
from proa.kubelet.simulated.outages import FAIL, HANG, PARTITION, Outage
from proa.kubelet.simulated.plan import Place, Step, long_way, plan
from proa.meta.objects import Obj, copy_object
from proa.util.clock import rfc3339

START = datetime(2026, 1, 1, tzinfo=UTC)
BEGUN = START.timestamp()


def bound_pod(**spec: object) -> Obj:
    scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": rfc3339(START)}
    return {
        "metadata": {"name": "p", "namespace": "d", "uid": "u", "generation": 1},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}], **spec},
        "status": {"phase": "Pending", "conditions": [scheduled]},
    }


def delete(pod: Obj, seconds: float, grace_seconds: int = 30) -> None:
    until = START + timedelta(seconds=seconds + grace_seconds)
    pod["metadata"].update(deletionTimestamp=rfc3339(until), deletionGracePeriodSeconds=grace_seconds)


class Lived:
    """A pod that lives as its simulated node says, in virtual time; `seen` are (when, what) of each change."""

    def __init__(self, pod: Obj, life: Life) -> None:
        self.pod, self.life = copy_object(pod), life
        self.at = 0.0
        self.outages: tuple[Outage, ...] = ()
        self.seen: list[tuple[float, str, bool, int]] = []
        self.told: list[tuple[float, str]] = []
        self.gone = False

    @property
    def status(self) -> Obj:
        found: Obj = self.pod["status"]
        return found

    def container(self, name: str = "c") -> Obj:
        listed = [*self.status.get("containerStatuses", ()), *self.status.get("initContainerStatuses", ())]
        return next(one for one in listed if one["name"] == name)

    def condition(self, kind: str) -> Obj:
        return next(one for one in self.status["conditions"] if one["type"] == kind)

    def look(self) -> Step:
        place = Place("10.0.0.1", "10.0.0.2", self.outages)
        step = plan(self.pod, self.life, place, START + timedelta(seconds=self.at))
        for one in step.told:
            if (one.at - BEGUN, one.reason) not in self.told:
                self.told.append((one.at - BEGUN, one.reason))
        if step.status is not None:
            self.pod["status"] = {**self.status, **step.status}
            first = self.container()
            self.seen.append((self.at, self.status["phase"], first["ready"], first["restartCount"]))
        if step.remove:
            self.gone = True
            self.seen.append((self.at, "gone", False, 0))
        return step

    def live(self, until: float) -> Lived:
        """Lets it live up to a moment."""
        for _ in range(200):
            if self.gone:
                break
            step = self.look()
            if step.status is not None:
                step = self.look() if not step.remove else step  # as the write is heard of
            if step.after_seconds is None or self.at + step.after_seconds > until:
                break
            self.at += step.after_seconds
        self.at = until
        return self

    def sleep(self, kind: str, start: float, end: float) -> Lived:
        """The node has a fault for a while."""
        self.live(start)
        self.outages = (*self.outages, Outage(kind, BEGUN + start, BEGUN + end))
        self.at = end
        return self


def lived(pod: Obj, life: Life, until: float) -> Lived:
    return Lived(pod, life).live(until)


@pytest.mark.parametrize(
    ("life", "policy", "seen"),
    [
        (Life(), "Always", [(0, "Running", True, 0)]),
        (
            Life(start_seconds=5, ready_seconds=3),
            "Always",
            [(0, "Pending", False, 0), (5, "Running", False, 0), (8, "Running", True, 0)],
        ),
        (Life(ready_seconds=FOREVER), "Always", [(0, "Running", False, 0)]),
        (Life(run_seconds=10), "Never", [(0, "Running", True, 0), (10, "Succeeded", False, 0)]),
        (Life(run_seconds=10, exit_code=3), "Never", [(0, "Running", True, 0), (10, "Failed", False, 0)]),
        (Life(run_seconds=10), "OnFailure", [(0, "Running", True, 0), (10, "Succeeded", False, 0)]),
        (Life(stuck_reason="ImagePullBackOff"), "Always", [(0, "Pending", False, 0)]),
        (Life(start_error="no such file"), "Always", [(0, "Pending", False, 0)]),
        (
            Life(runs=[Run(seconds=2, exit_code=1), Run(seconds=3)]),
            "OnFailure",
            [(0, "Running", True, 0), (2, "Running", True, 1), (5, "Succeeded", False, 1)],
        ),
        (
            Life(runs=[Run(seconds=2, exit_code=1), Run()]),
            "Always",
            [(0, "Running", True, 0), (2, "Running", True, 1)],
        ),
        (Life(evict_seconds=7), "Always", [(0, "Running", True, 0), (7, "Failed", False, 0)]),
    ],
)
def test_lives(life: Life, policy: str, seen: list) -> None:
    assert lived(bound_pod(restartPolicy=policy), life, 100).seen == seen


def test_a_crashing_container_backs_off() -> None:
    one = lived(bound_pod(restartPolicy="Always"), Life(run_seconds=1, exit_code=1), 100)
    assert [at for at, _, ready, _ in one.seen if ready] == [0, 1, 12, 33, 74]
    waiting = one.container()["state"]["waiting"]
    assert waiting["reason"] == "CrashLoopBackOff"
    assert waiting["message"] == "back-off 1m20s restarting failed container=c pod=p_d(u)"
    assert one.status["phase"] == "Running" and one.container()["restartCount"] == 4
    assert one.container()["lastState"]["terminated"]["exitCode"] == 1
    assert [at for at, reason in one.told if reason == "BackOff"] == [2, 13, 34, 75]


def test_the_back_off_ends_after_ten_good_minutes() -> None:
    runs = [Run(seconds=1, exit_code=1), Run(seconds=1, exit_code=1), Run(seconds=700, exit_code=1)]
    one = lived(bound_pod(restartPolicy="Always"), Life(runs=[*runs, Run(seconds=1, exit_code=1)]), 760)
    assert [at for at, _, ready, _ in one.seen if ready] == [0, 1, 12, 712, 723, 744]


@pytest.mark.parametrize(
    ("run", "reason", "message"),
    [
        (Run(seconds=1), "Completed", None),
        (Run(seconds=1, exit_code=2), "Error", None),
        (Run(seconds=1, exit_code=137, reason="OOMKilled"), "OOMKilled", None),
        (Run(seconds=1, exit_code=1, message="no disk"), "Error", "no disk"),
    ],
)
def test_how_containers_end(run: Run, reason: str, message: str | None) -> None:
    state = lived(bound_pod(restartPolicy="Never"), Life(runs=[run]), 5).container()["state"]["terminated"]
    assert (state["exitCode"], state["reason"], state.get("message")) == (run.exit_code, reason, message)
    assert state["startedAt"] == "2026-01-01T00:00:00Z" and state["finishedAt"] == "2026-01-01T00:00:01Z"


# ---------------------------------------------------------------- images


def test_a_pull_takes_time() -> None:
    one = lived(bound_pod(), Life(pulls=[Pull(seconds=4)], start_seconds=1), 100)
    assert one.seen == [(0, "Pending", False, 0), (5, "Running", True, 0)]
    assert one.told == [(0, "Pulling"), (4, "Pulled"), (5, "Created"), (5, "Started")]


def test_pulls_that_fail_back_off() -> None:
    one = Lived(bound_pod(), Life(pulls=[Pull(seconds=1, error="denied")]))
    waits = []
    for until in (0, 1, 2, 11, 12, 13, 32, 33, 73):
        one.live(until)
        waiting = one.container()["state"]["waiting"]
        waits.append((until, waiting["reason"], waiting.get("message")))
    backed_off = 'Back-off pulling image "i": ErrImagePull: denied'
    assert waits == [
        (0, "ContainerCreating", None),
        (1, "ErrImagePull", "denied"),
        (2, "ImagePullBackOff", backed_off),
        (11, "ImagePullBackOff", backed_off),
        (12, "ErrImagePull", "denied"),
        (13, "ImagePullBackOff", backed_off),
        (32, "ImagePullBackOff", backed_off),
        (33, "ErrImagePull", "denied"),
        (73, "ImagePullBackOff", backed_off),
    ]
    assert [at for at, reason in one.told if reason == "Pulling"] == [0, 11, 32, 73]
    assert one.status["phase"] == "Pending"


def test_a_pull_succeeds_in_the_end() -> None:
    one = lived(bound_pod(), Life(pulls=[Pull(error="denied"), Pull(error="denied"), Pull(seconds=2)]), 100)
    assert one.seen[-1] == (32, "Running", True, 0)


def test_a_restart_does_not_pull_again() -> None:
    one = lived(bound_pod(), Life(pulls=[Pull(seconds=5)], runs=[Run(seconds=1, exit_code=1), Run()]), 100)
    assert one.seen[-1] == (6, "Running", True, 1)


# ---------------------------------------------------------------- init containers, sidecars, single containers


def with_init(**spec: object) -> Obj:
    init = [{"name": "one", "image": "i"}, {"name": "two", "image": "i"}]
    return bound_pod(initContainers=init, **spec)


def test_init_containers_run_one_after_the_other() -> None:
    one = Lived(with_init(), Life(inits=[Run(seconds=2)])).live(1)
    assert one.status["phase"] == "Pending" and "running" in one.container("one")["state"]
    assert one.container("two")["state"]["waiting"]["reason"] == "PodInitializing"
    assert one.container()["state"]["waiting"]["reason"] == "PodInitializing"
    assert one.condition("Initialized")["message"] == "containers with incomplete status: [one two]"
    one.live(3)
    assert "terminated" in one.container("one")["state"] and "running" in one.container("two")["state"]
    one.live(9)
    assert one.seen[-1] == (4, "Running", True, 0) and one.condition("Initialized")["status"] == "True"


@pytest.mark.parametrize(("policy", "phase"), [("Never", "Failed"), ("Always", "Pending"), ("OnFailure", "Pending")])
def test_an_init_container_fails(policy: str, phase: str) -> None:
    one = lived(with_init(restartPolicy=policy), Life(inits=[Run(seconds=1, exit_code=4)]), 5)
    assert one.status["phase"] == phase
    state = one.container("one")["state" if policy == "Never" else "lastState"]["terminated"]
    assert state["exitCode"] == 4
    if policy != "Never":
        assert one.container("one")["state"]["waiting"]["reason"] == "CrashLoopBackOff"


def test_an_init_container_succeeds_at_the_second_try() -> None:
    life = Life(inits=[Run(seconds=1, exit_code=4), Run(seconds=1)])
    one = lived(with_init(), life, 100)
    assert one.status["phase"] == "Running" and one.container("one")["restartCount"] == 1


def test_a_sidecar_ends_after_the_others() -> None:
    pod = bound_pod(initContainers=[{"name": "side", "image": "i", "restartPolicy": "Always"}], restartPolicy="Never")
    one = Lived(pod, Life(run_seconds=5)).live(1)
    assert one.container("side")["ready"] and one.status["phase"] == "Running"
    one.live(9)
    assert one.status["phase"] == "Succeeded" and "terminated" in one.container("side")["state"]


def test_one_container_of_two_crashes() -> None:
    pod = bound_pod(containers=[{"name": "c", "image": "i"}, {"name": "d", "image": "i"}])
    one = lived(pod, Life(containers={"d": Life(run_seconds=1, exit_code=9)}), 3)
    assert one.container("c")["ready"] and one.container("d")["restartCount"] == 1
    assert one.container("d")["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert one.condition("Ready")["message"] == "containers with unready status: [d]"


def test_an_image_that_is_changed_in_place_restarts_its_container() -> None:
    one = Lived(bound_pod(), Life()).live(10)
    one.pod["spec"]["containers"][0]["image"] = "other"
    one.live(20)
    assert one.container()["image"] == "other" and one.container()["restartCount"] == 1
    assert one.container()["state"]["running"]["startedAt"] == "2026-01-01T00:00:10Z"


def test_the_active_deadline() -> None:
    one = lived(bound_pod(activeDeadlineSeconds=20), Life(), 100)
    assert one.seen[-1][:2] == (20, "Failed") and one.status["reason"] == "DeadlineExceeded"


def test_an_evicted_pod_says_so() -> None:
    one = lived(bound_pod(), Life(evict_seconds=7, evict_message="no room"), 100)
    assert (one.status["reason"], one.status["message"]) == ("Evicted", "no room")
    assert one.condition("DisruptionTarget")["reason"] == "TerminationByKubelet"
    assert (7, "Evicted") in one.told


def test_readiness_gates_hold_ready_back() -> None:
    one = lived(bound_pod(readinessGates=[{"conditionType": "example.com/ok"}]), Life(), 1)
    assert one.condition("Ready")["status"] == "False" and one.condition("ContainersReady")["status"] == "True"
    one.status["conditions"].append({"type": "example.com/ok", "status": "True"})
    assert one.live(2).condition("Ready")["status"] == "True"


# ---------------------------------------------------------------- ends


@pytest.mark.parametrize(
    ("life", "at", "code"),
    [
        (Life(stop_seconds=2), 12, 137),
        (Life(stop_seconds=2, stop_exit_code=0), 12, 0),
        (Life(stop_seconds=99), 40, 137),
        (Life(stop_seconds=FOREVER, stop_exit_code=0), 40, 137),
    ],
)
def test_a_deleted_pod_stops_in_time(life: Life, at: float, code: int) -> None:
    one = Lived(bound_pod(), life).live(10)
    delete(one.pod, 10)
    one.live(100)
    assert one.seen[-1] == (at, "gone", False, 0) and (10, "Killing") in one.told
    assert one.container()["state"]["terminated"]["exitCode"] == code


@pytest.mark.parametrize("life", [Life(), Life(stop_seconds=5), Life(pulls=[Pull(seconds=60)])])
def test_a_pod_that_never_started_goes_at_once(life: Life) -> None:
    pod = bound_pod()
    delete(pod, 0)
    assert lived(pod, life, 100).seen[-1] == (0, "gone", False, 0)


def test_a_shorter_grace_period_counts() -> None:
    one = Lived(bound_pod(), Life(stop_seconds=FOREVER)).live(10)
    delete(one.pod, 10)
    one.live(12)
    delete(one.pod, 12, 5)
    assert one.live(100).seen[-1] == (17, "gone", False, 0)


def test_who_holds_a_pod_back_sees_how_it_ends() -> None:
    one = Lived(bound_pod(), Life()).live(10)
    one.pod["metadata"]["finalizers"] = ["example.com/wait"]
    delete(one.pod, 10)
    one.live(11)
    assert one.status["phase"] == "Failed" and one.container()["state"]["terminated"]["exitCode"] == 137


def test_sidecars_are_told_to_stop_after_the_others() -> None:
    pod = bound_pod(initContainers=[{"name": "side", "image": "i", "restartPolicy": "Always"}])
    one = Lived(pod, Life(stop_seconds=3)).live(10)
    delete(one.pod, 10)
    assert one.live(14).container("side")["state"].get("running") and not one.gone
    assert one.live(100).seen[-1] == (16, "gone", False, 0)


# ---------------------------------------------------------------- faults of the node


def test_a_pod_on_a_failed_node_starts_again() -> None:
    one = Lived(bound_pod(), Life()).sleep(FAIL, 50, 400).live(500)
    state = one.container()
    assert state["restartCount"] == 1 and state["state"]["running"]["startedAt"] == "2026-01-01T00:06:40Z"
    last = state["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"], last["finishedAt"]) == (255, "Unknown", "2026-01-01T00:00:50Z")
    assert (400, "SandboxChanged") in one.told


def test_a_failed_node_ends_pods_that_never_restart() -> None:
    one = Lived(bound_pod(restartPolicy="Never"), Life(run_seconds=100)).sleep(FAIL, 50, 400).live(500)
    assert one.status["phase"] == "Failed" and one.container()["state"]["terminated"]["exitCode"] == 255


def test_a_failed_node_runs_init_containers_again() -> None:
    one = Lived(with_init(), Life(inits=[Run(seconds=5)])).sleep(FAIL, 50, 400).live(405)
    assert one.container("one")["restartCount"] == 1 and one.status["phase"] in ("Pending", "Running")
    assert one.live(500).container()["state"]["running"]["startedAt"] == "2026-01-01T00:06:50Z"


def test_on_a_node_that_hangs_time_stands_still() -> None:
    one = Lived(bound_pod(restartPolicy="Never"), Life(run_seconds=60)).sleep(HANG, 20, 620).live(1000)
    assert one.seen[-1] == (660, "Succeeded", False, 0) and one.container()["restartCount"] == 0


def test_behind_a_partition_pods_go_on() -> None:
    one = Lived(bound_pod(restartPolicy="Never"), Life(run_seconds=60)).sleep(PARTITION, 20, 620).live(1000)
    assert one.seen[-1] == (620, "Succeeded", False, 0)
    assert one.container()["state"]["terminated"]["finishedAt"] == "2026-01-01T00:01:00Z"


def test_crashes_behind_a_partition_are_counted() -> None:
    life = Life(run_seconds=1, exit_code=1)
    one = Lived(bound_pod(), life).sleep(PARTITION, 20, 700).live(700)
    assert one.container()["restartCount"] == lived(bound_pod(), life, 700).container()["restartCount"] > 5


@pytest.mark.parametrize(("kind", "gone"), [(PARTITION, 605), (HANG, 605), (FAIL, 600)])
def test_a_node_learns_late_of_deletions(kind: str, gone: float) -> None:
    one = Lived(bound_pod(), Life(stop_seconds=5)).live(50)
    delete(one.pod, 590)  # while nobody hears
    assert one.sleep(kind, 50, 600).live(1000).seen[-1][:2] == (gone if kind == FAIL else min(gone, 620), "gone")


def test_a_pod_that_is_bound_to_a_silent_node_starts_late() -> None:
    one = Lived(bound_pod(), Life())
    one.outages = (Outage(PARTITION, BEGUN - 10, BEGUN + 300),)
    one.at = 300
    one.live(400)
    assert one.container()["state"]["running"]["startedAt"] == "2026-01-01T00:05:00Z"


# ---------------------------------------------------------------- chance and choice


def test_draws_depend_on_seed_and_pod_alone() -> None:
    pods = [{**bound_pod(), "metadata": {"name": f"p-{number}", "namespace": "d"}} for number in range(400)]
    first, second = Life(seed=1), Life(seed=2)
    drawn = [draw(first, pod, "start") for pod in pods]
    assert drawn == [draw(first, pod, "start") for pod in pods] != [draw(second, pod, "start") for pod in pods]
    assert 0.45 < sum(drawn) / len(drawn) < 0.55 and len(set(drawn)) == len(drawn)


def test_a_uniform_span_is_kept_over_restarts_of_the_simulator() -> None:
    life = Life(start_seconds=Uniform(2, 20), seed=3)
    one = lived(bound_pod(), life, 100)
    assert [phase for _, phase, _, _ in one.seen] == ["Pending", "Running"] and 2 <= one.seen[1][0] <= 20


def test_a_share_of_the_pods() -> None:
    life, pods = Life(share=0.3), [bound_pod() for _ in range(1000)]
    for number, pod in enumerate(pods):
        pod["metadata"]["name"] = f"p-{number}"
    assert 250 < sum(life.matches(pod) for pod in pods) < 350


@pytest.mark.parametrize(
    ("life", "matches"),
    [
        (Life(), True),
        (Life(labels={"app": "web"}), True),
        (Life(labels={"app": "db"}), False),
        (Life(namespace="other"), False),
        (Life(annotations={"note": "1"}), True),
        (Life(annotations={"note": "2"}), False),
        (Life(image="registry/*:broken"), True),
        (Life(image="*:good"), False),
        (Life(share=0.0), False),
    ],
)
def test_whom_a_life_is_for(life: Life, matches: bool) -> None:
    pod = bound_pod(containers=[{"name": "c", "image": "registry/a/b:broken"}])
    pod["metadata"].update(labels={"app": "web"}, annotations={"note": "1"})
    assert life.matches(pod) is matches


# ---------------------------------------------------------------- the short way

_MOUNT = {"name": "token", "mountPath": "/var/run/secrets", "readOnly": True}


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"hostNetwork": True},
        {"containers": [{"name": "c", "image": "i"}, {"name": "d"}]},
        {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}}]},
        {"containers": [{"name": "c", "image": "i", "volumeMounts": [_MOUNT]}]},
    ],
)
@pytest.mark.parametrize("conditions", [(), ({"type": "example.com/x", "status": "True"},)])
def test_the_short_way_says_what_the_kubelet_says(spec: Any, conditions: Sequence[Obj]) -> None:
    pod, place, now = bound_pod(**spec), Place("10.0.0.1", "10.0.0.2"), START + timedelta(seconds=1.4)
    pod["status"]["conditions"] += conditions
    short, long = plan(pod, Life(), place, now), long_way(pod, Life(), place, now)
    assert short.status == long.status and short.after_seconds is long.after_seconds is None
    assert list(short.told) == list(long.told)
    pod["status"] = {**pod["status"], **short.status}  # type: ignore[dict-item]
    assert plan(pod, Life(), place, now) == long_way(pod, Life(), place, now, now.timestamp()) == Step()
    pod["status"]["conditions"][2] = {**pod["status"]["conditions"][2], "status": "False"}
    assert plan(pod, Life(), place, now).status is not None


# ---------------------------------------------------------------- the same, however often one looks


def random_life(dice: random.Random) -> Life:
    def span() -> float | Uniform:
        least = dice.choice([0, 0, 1, 3, 20])
        return Uniform(least, least + dice.choice([2, 10])) if dice.random() < 0.3 else least

    def run() -> Run:
        seconds = FOREVER if dice.random() < 0.3 else float(dice.choice([1, 2, 5, 30, 700]))
        return Run(seconds=seconds, exit_code=dice.choice([0, 1, 137]))

    pulls = [Pull(seconds=span(), error=dice.choice(["", "denied"])) for _ in range(dice.choice([0, 0, 1, 3]))]
    inits = [Run(seconds=span(), exit_code=dice.choice([0, 0, 1])) for _ in range(dice.choice([0, 1, 2]))]
    return Life(
        pulls=pulls,
        inits=inits,
        start_seconds=span(),
        ready_seconds=dice.choice([0.0, 4.0, FOREVER]),
        runs=[run() for _ in range(dice.choice([0, 1, 2, 3]))],
        evict_seconds=dice.choice([FOREVER, FOREVER, 50.0]),
        containers={"d": Life(runs=[run()])} if dice.random() < 0.3 else {},
        seed=dice.randrange(99),
    )


def random_pod(dice: random.Random) -> Obj:
    mains = [{"name": name, "image": "i"} for name in dice.choice(["c", "cd"])]
    inits = [{"name": "one", "image": "i"}, {"name": "side", "image": "i", "restartPolicy": "Always"}]
    more: dict[str, Any] = {"restartPolicy": dice.choice(["Always", "OnFailure", "Never"])}
    if dice.random() < 0.2:
        more["activeDeadlineSeconds"] = 40
    return bound_pod(containers=mains, initContainers=inits[: dice.choice([0, 1, 2])], **more)


def essence(one: Lived) -> Any:
    """What matters, but for what a status cannot hold: the run before the last, of a container that waits for the next,
    and what a container waited for when the pod was ended.
    """
    containers = []
    for key in ("initContainerStatuses", "containerStatuses"):
        for each in one.status.get(key, ()):
            state, last = each["state"], each["lastState"]
            if one.status["phase"] == "Failed":
                state, last = state if "terminated" in state else {}, {}
            containers.append((each["name"], state, last, each["restartCount"], each["ready"]))
    conditions = {each["type"]: each["status"] for each in one.status["conditions"]}
    return one.status["phase"], one.status.get("reason"), containers, conditions


@pytest.mark.parametrize("seed", range(200))
def test_who_looks_once_sees_what_another_saw_who_always_looked(seed: int) -> None:
    dice = random.Random(seed)
    pod, life, until = random_pod(dice), random_life(dice), float(dice.choice([10, 60, 400, 2000]))
    often, seldom = Lived(pod, life).live(until), Lived(pod, life).live(0)
    for moment in sorted(dice.uniform(0, until) // 1 for _ in range(dice.choice([0, 1, 5]))):
        seldom.at = moment  # whenever it comes
        seldom.look()
    seldom.at = until
    seldom.look()
    often.look()
    assert essence(seldom) == essence(often)
