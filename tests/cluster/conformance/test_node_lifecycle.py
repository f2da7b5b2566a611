"""How containers begin and end: init containers, hooks, exit codes and restarts, termination messages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.conformance.conftest import Api
from tests.cluster.conformance.fleet import SERVER_FILES, Fleet, Obj, container, launched, pod_of, server, shell
from tests.cluster.conformance.objects import condition, core, is_ready
from tests.cluster.conftest import RunningCluster
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster

# First fails, then succeeds, then stays: each start finds one line more in the volume.
THREE_LIVES = (
    "count=$(echo hello >>/data/file; wc -l </data/file); [ $count -eq 1 ] && exit 1; [ $count -eq 2 ] && exit 0; "
    "while true; do sleep 1; done"
)
MESSAGE_FILE = "/dev/termination-custom-log"
NAMES = ("init1", "init2")


def with_inits(name: str, policy: str, *commands: str, main: str = "true") -> Obj:
    inits = [container(name, command) for name, command in zip(NAMES, commands, strict=True)]
    return pod_of(name, container("run1", "sh", "-c", main), initContainers=inits, restartPolicy=policy)


def lives(name: str, policy: str) -> Obj:
    spec = {"restartPolicy": policy, "volumes": [{"name": "data", "emptyDir": {}}]}
    return shell(name, THREE_LIVES, volumeMounts=[{"name": "data", "mountPath": "/data"}], pod=spec)


def restarted_together(name: str) -> Obj:
    """A pod whose watcher ends with 42 in the first round: everything begins again, in the same volumes."""
    mounts = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    rule = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}
    watch = "[ $(wc -l </data/setup) -gt 1 ] && sleep 600; until [ -e /data/main ]; do sleep 0.2; done; exit 42"
    watcher = container("watcher", "sh", "-c", watch, restartPolicy="Always", restartPolicyRules=[rule], **mounts)
    setup = container("setup", "sh", "-c", "echo setup >>/data/setup", **mounts)
    main = container("main", "sh", "-c", "echo main >>/data/main; sleep 600", **mounts)
    return pod_of(name, main, initContainers=[setup, watcher], volumes=[{"name": "data", "emptyDir": {}}])


def message(name: str, script: str, policy: str = "FallbackToLogsOnError", **fields: object) -> Obj:
    return shell(name, script, terminationMessagePolicy=policy, **fields)


def objects() -> list[Obj]:
    as_user = {"securityContext": {"runAsUser": 1000}, "terminationMessagePath": MESSAGE_FILE}
    return [
        SERVER_FILES,
        server("handler", readinessProbe={"tcpSocket": {"port": 8080}, "periodSeconds": 1}),
        with_inits("init-never", "Never", "true", "true"),
        with_inits("init-always", "Always", "true", "true", main="sleep 600"),
        with_inits("fails-never", "Never", "true", "false"),
        lives("terminate-always", "Always"),
        lives("terminate-on-failure", "OnFailure"),
        lives("terminate-never", "Never"),
        restarted_together("together"),
        message("message-path", f"echo -n DONE >{MESSAGE_FILE}", "File", **as_user),
        message("message-logs", "echo -n DONE; exit 1"),
        message("message-empty", "echo -n DONE"),
        message("message-file", "echo -n OK >/dev/termination-log; echo -n DONE"),
    ]


@pytest.fixture(scope="module")
def fleet(cluster: RunningCluster, api: Api) -> Iterator[Fleet]:
    with launched(cluster, api, *objects()) as made:
        yield made


# ---------------------------------------------------------------- init containers


def inits(pod: Obj) -> list[Obj]:
    return list(pod["status"]["initContainerStatuses"])


@pytest.mark.behaviour(
    "[sig-node] InitContainer should invoke init containers on a RestartNever pod",
    "[sig-node] InitContainer should invoke init containers on a RestartAlways pod",
)
@pytest.mark.parametrize(("name", "phase"), [("init-never", "Succeeded"), ("init-always", "Running")])
def test_init_containers_run_first(fleet: Fleet, name: str, phase: str) -> None:
    pod = fleet.phase(name, phase)
    assert condition(pod, "Initialized")["status"] == "True"
    assert [one["name"] for one in inits(pod)] == list(NAMES)
    for status in inits(pod):
        assert status["ready"]
        assert status["state"]["terminated"]["exitCode"] == 0
    (main,) = pod["status"]["containerStatuses"]
    if phase == "Running":
        assert main["ready"] and "running" in main["state"]
    else:
        assert main["state"]["terminated"]["exitCode"] == 0
    finished = [status["state"]["terminated"]["finishedAt"] for status in inits(pod)]
    started = next(iter(main["state"].values()))["startedAt"]
    assert sorted([*finished, started]) == [*finished, started]


@pytest.mark.behaviour(
    "[sig-node] InitContainer should not start app containers and fail the pod if init containers fail on a "
    "RestartNever pod"
)
def test_a_failing_init_container_fails_the_pod(fleet: Fleet) -> None:
    pod = fleet.phase("fails-never", "Failed")
    first, second = inits(pod)
    assert first["state"]["terminated"]["exitCode"] == 0 and first["ready"]
    assert second["state"]["terminated"]["exitCode"] != 0 and not second["ready"]
    _is_not_started(pod, "init2")


@pytest.mark.behaviour(
    "[sig-node] InitContainer should not start app containers if init containers fail on a RestartAlways pod"
)
def test_a_failing_init_container_is_restarted(restarting: Fleet) -> None:
    """What runs after it stays waiting, while it is restarted with growing pauses."""

    def restarted(pod: Obj) -> bool:
        statuses = pod["status"].get("initContainerStatuses")
        return bool(statuses and statuses[0]["restartCount"] >= 3)

    pod = restarting.until("fails-always", restarted, what="not restarted three times")
    first, second = inits(pod)
    assert pod["status"]["phase"] == "Pending"
    assert first["lastState"]["terminated"]["exitCode"] != 0
    assert second["state"]["waiting"]["reason"] == "PodInitializing"
    _is_not_started(pod, "init1 init2")
    assert any(one["reason"] == "BackOff" for one in restarting.events("fails-always"))


def _is_not_started(pod: Obj, incomplete: str) -> None:
    initialized = condition(pod, "Initialized")
    assert (initialized["status"], initialized["reason"]) == ("False", "ContainersNotInitialized")
    assert initialized["message"] == f"containers with incomplete status: [{incomplete}]"
    (main,) = pod["status"]["containerStatuses"]
    assert main["state"]["waiting"]["reason"] == "PodInitializing"
    assert not main["ready"] and main["restartCount"] == 0


# ---------------------------------------------------------------- hooks


def hooked(name: str, **lifecycle: Obj) -> Obj:
    spec = {"terminationGracePeriodSeconds": 30}
    return shell(name, "trap 'exit 0' TERM; while :; do sleep 0.2; done", lifecycle=lifecycle, pod=spec)


def to_handler(fleet: Fleet, kind: str, message: str) -> Obj:
    """A hook that calls the handler pod, over HTTP or by a command."""
    address = fleet.ready("handler")["status"]["podIP"]
    if kind == "exec":
        return {"exec": {"command": ["wget", "-q", "-O", "-", f"http://{address}:8080/echo?msg={message}"]}}
    headers = [{"name": "User-Agent", "value": message}]
    return {"httpGet": {"path": f"/echo?msg={message}", "host": address, "port": 8080, "httpHeaders": headers}}


@pytest.mark.behaviour(
    "[sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute poststart exec hook "
    "properly",
    "[sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute poststart http hook "
    "properly",
)
@pytest.mark.parametrize("kind", ["exec", "http"])
def test_post_start_hook(fleet: Fleet, kind: str) -> None:
    name = f"post-start-{kind}"
    fleet.create(hooked(name, postStart=to_handler(fleet, kind, name)))
    fleet.ready(name)
    assert f"GET /echo?msg={name}" in fleet.logs("handler")
    fleet.delete(name)


@pytest.mark.behaviour(
    "[sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute prestop exec hook "
    "properly",
    "[sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute prestop http hook "
    "properly",
)
@pytest.mark.parametrize("kind", ["exec", "http"])
def test_pre_stop_hook(fleet: Fleet, kind: str) -> None:
    name = f"pre-stop-{kind}"
    fleet.create(hooked(name, preStop=to_handler(fleet, kind, name)))
    fleet.ready(name)
    assert name not in fleet.logs("handler")
    fleet.delete(name, gracePeriodSeconds=30)
    assert f"GET /echo?msg={name}" in fleet.logs("handler")


def test_any_answer_to_a_hook_will_do(fleet: Fleet) -> None:
    name = "post-start-404"
    hook = to_handler(fleet, "http", name)
    hook["httpGet"]["path"] = "/missing"
    fleet.create(hooked(name, postStart=hook))
    fleet.ready(name)
    assert "GET /missing post-start-404" in fleet.logs("handler")


def test_a_failing_post_start_hook_ends_the_container(fleet: Fleet) -> None:
    """It is started again, and the event does not repeat what the hook said."""
    made = hooked("post-start-fails", postStart={"exec": {"command": ["sh", "-c", "echo secret; exit 3"]}})
    made["spec"]["restartPolicy"] = "Always"
    fleet.create(made)
    eventually(lambda: fleet.container("post-start-fails").get("restartCount", 0) >= 1)
    events = {one["reason"]: one["message"] for one in fleet.events("post-start-fails")}
    assert events["FailedPostStartHook"] == "PostStartHook failed"
    assert events["Killing"] == "FailedPostStartHook"
    fleet.delete("post-start-fails", gracePeriodSeconds=0)


@pytest.mark.behaviour("[sig-node] PreStop should call prestop when killing a pod")
def test_pre_stop_posts_to_another_pod(api: Api, fleet: Fleet) -> None:
    """What the tester's hook wrote to the server is read through the API server's proxy once the tester is gone."""
    read = core(fleet.namespace, "pods", "handler") + ":8080/proxy/read"
    address = fleet.ready("handler")["status"]["podIP"]
    assert "prestop" not in api.get(read).body.decode()
    post = ["wget", "-O-", "--post-data", '{"Source": "prestop"}', f"http://{address}:8080/write"]
    fleet.create(hooked("tester", preStop={"exec": {"command": post}}))
    fleet.ready("tester")
    fleet.delete("tester")
    eventually(lambda: '"prestop"' in api.get(read).body.decode())


# ---------------------------------------------------------------- ends


@pytest.mark.behaviour(
    "[sig-node] Container Runtime blackbox test when starting a container that exits should run with the expected "
    "status"
)
@pytest.mark.parametrize(
    ("name", "phase", "state", "restarts", "ready"),
    [
        ("terminate-always", "Running", "running", 2, True),
        ("terminate-on-failure", "Succeeded", "terminated", 1, False),
        ("terminate-never", "Failed", "terminated", 0, False),
    ],
)
def test_restart_policies(fleet: Fleet, name: str, phase: str, state: str, restarts: int, ready: bool) -> None:
    def settled(pod: Obj) -> bool:
        (status,) = pod["status"].get("containerStatuses") or [{}]
        return bool(
            pod["status"].get("phase") == phase
            and status.get("restartCount") == restarts
            and state in status["state"]
            and status["ready"] is ready
        )

    pod = fleet.until(name, settled, what="another end than expected")
    assert condition(pod, "Ready")["status"] == ("True" if ready else "False")


def test_all_containers_restart_together(fleet: Fleet) -> None:
    """The pod stays: its address, its sandbox and its volumes; its init container runs again."""

    def settled(pod: Obj) -> bool:
        status = pod["status"]
        every = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
        return bool(every and all(one["restartCount"] == 1 for one in every) and is_ready(pod))

    pod = fleet.until("together", settled, what="not restarted together")
    assert condition(pod, "AllContainersRestarting")["status"] == "False"
    assert fleet.run("together", "cat /data/setup /data/main").split() == ["setup", "setup", "main", "main"]
    assert pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 137


@pytest.mark.behaviour(
    "[sig-node] Container Runtime blackbox test on terminated container should report termination message if "
    "TerminationMessagePath is set as non-root user and at a non-default path",
    "[sig-node] Container Runtime blackbox test on terminated container should report termination message from log "
    "output if TerminationMessagePolicy FallbackToLogsOnError is set",
    "[sig-node] Container Runtime blackbox test on terminated container should report termination message as empty "
    "when pod succeeds and TerminationMessagePolicy FallbackToLogsOnError is set",
    "[sig-node] Container Runtime blackbox test on terminated container should report termination message from file "
    "when pod succeeds and TerminationMessagePolicy FallbackToLogsOnError is set",
)
@pytest.mark.parametrize(
    ("name", "phase", "said"),
    [
        ("message-path", "Succeeded", "DONE"),
        ("message-logs", "Failed", "DONE"),
        ("message-empty", "Succeeded", ""),
        ("message-file", "Succeeded", "OK"),
    ],
)
def test_termination_messages(fleet: Fleet, name: str, phase: str, said: str) -> None:
    fleet.phase(name, phase)
    assert fleet.container(name)["state"]["terminated"].get("message", "") == said
