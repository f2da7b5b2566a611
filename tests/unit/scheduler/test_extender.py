"""What extenders are asked, and what their answers do; and the asking itself, over HTTP and HTTPS."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from proa.meta.objects import Obj
from proa.scheduler.calls import Calls
from proa.scheduler.cycle import Placed, Unplaced, deciding, schedule
from proa.scheduler.extender import Ask, Extender, ExtenderError
from proa.scheduler.framework import Profile
from proa.scheduler.plugins import DEFAULT_WEIGHTS, default_plugins, default_profile
from proa.scheduler.pod import parse_pod
from proa.scheduler.preemption import Preemption, preempting
from tests.unit.scheduler.cases import cluster, node, pod

NODES = [node(name) for name in "abc"]
FILTERING = Extender("http://x", filter_verb="filter", node_cache_capable=True)


def profile(*extenders: Extender) -> Profile:
    return Profile("default-scheduler", default_plugins(), DEFAULT_WEIGHTS, extenders=extenders)


def driven(asking: Generator[Ask, Any, Any], *answers: Any) -> tuple[Any, list[Ask]]:
    """Answers a generator's questions in turn (an exception is raised there); returns its result and the questions."""
    asked = []
    given = iter(answers)
    try:
        asked.append(next(asking))
        while True:
            answer = next(given)
            asked.append(asking.throw(answer) if isinstance(answer, Exception) else asking.send(answer))
    except StopIteration as stop:
        return stop.value, asked


def placed(extender: Extender, *answers: Any, wanted: Obj | None = None) -> tuple[Any, list[Ask]]:
    return driven(deciding(parse_pod(wanted or pod("p")), cluster(NODES), profile(extender), 0), *answers)


def test_filters_get_names_or_nodes() -> None:
    outcome, (ask,) = placed(FILTERING, {"nodenames": ["b"]})
    assert outcome == Placed("b", 1) and ask.verb == "filter"
    assert sorted(ask.body["nodenames"]) == ["a", "b", "c"] and ask.body["pod"]["metadata"]["name"] == "p"
    whole = Extender("http://x", filter_verb="filter")
    outcome, (ask,) = placed(whole, {"Nodes": {"items": [NODES[2]]}})
    assert outcome == Placed("c", 1) and len(ask.body["nodes"]["items"]) == 3


def test_reasons_of_an_extender_are_counted() -> None:
    answer = {
        "nodenames": [],
        "failedNodes": {"a": "too hot", "b": "too hot"},
        "failedAndUnresolvableNodes": {"c": "off"},
    }
    outcome, _ = placed(FILTERING, answer)
    assert isinstance(outcome, Unplaced)
    assert outcome.message == "0/3 nodes are available: 1 off, 2 too hot."
    assert len(outcome.curable) == 2, "preemption may help on two"


@pytest.mark.parametrize("failure", [ExtenderError("down"), {"error": "down"}])
def test_failures_of_an_ignorable_extender_are_ignored(failure: Any) -> None:
    with pytest.raises(ExtenderError, match="down"):
        placed(FILTERING, failure)
    lenient = Extender("http://x", filter_verb="filter", ignorable=True)
    outcome, _ = placed(lenient, failure)
    assert isinstance(outcome, Placed)


def test_scores_are_added_with_their_weight() -> None:
    scoring = Extender("http://x", prioritize_verb="prioritize", weight=5)
    outcome, _ = placed(scoring, [{"host": "a", "score": 0}, {"Host": "b", "Score": 10}])
    assert outcome == Placed("b", 3)
    assert isinstance(placed(scoring, ExtenderError("down"))[0], Placed), "an extender that cannot score is passed over"


def test_an_extender_is_asked_about_its_own_resources_only() -> None:
    managing = Extender("http://x", filter_verb="filter", managed_resources=frozenset(["example.com/gpu"]))
    assert not placed(managing)[1]
    gpu = pod("p", container={"resources": {"limits": {"example.com/gpu": "1"}}})
    assert placed(managing, {"nodenames": ["a"]}, wanted=gpu)[1]


def test_preemption_asks_about_candidates() -> None:
    on_nodes = [pod(f"low-{name}", cpu="4", on=name, priority=1) for name in "abc"]
    columns = cluster(NODES, on_nodes)
    wanted = parse_pod(pod("p", cpu="4", priority=10))
    failed = schedule(wanted, columns, default_profile(), 0)
    assert isinstance(failed, Unplaced)
    extender = Extender("http://x", preempt_verb="preempt", node_cache_capable=True)
    answer = {"nodeNameToMetaVictims": {"c": {"pods": [{"uid": "uid-low-c"}], "numPDBViolations": 0}}}
    found, (ask,) = driven(preempting(wanted, columns, profile(extender), failed, [], 0), answer)
    assert isinstance(found, Preemption) and found.node == "c" and found.victims[0].key == "default/low-c"
    assert set(ask.body["nodeNameToMetaVictims"]) == {"a", "b", "c"}


# ---------------------------------------------------------------- over the wire


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = json.dumps({"path": self.path, "body": body}).encode()
        self.send_response(500 if "broken" in self.path else 200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


async def asked(extender: Extender, verb: str = "filter") -> Any:
    calls = Calls()
    try:
        return await calls.ask(extender, verb, {"pod": {}})
    finally:
        await calls.close()


def test_asking_over_http() -> None:
    with serving() as port:
        url = f"http://127.0.0.1:{port}/prefix"
        assert asyncio.run(asked(Extender(url))) == {"path": "/prefix/filter", "body": {"pod": {}}}
        with pytest.raises(ExtenderError, match=f"failed broken with extender at URL {url}/broken, code 500"):
            asyncio.run(asked(Extender(url), "broken"))
    with pytest.raises(ExtenderError, match="Post"):
        asyncio.run(asked(Extender(url)))


def test_asking_over_https(tmp_path: Path) -> None:
    from proa.cluster.pki import Pki, api_server

    pki = Pki(tmp_path)
    pki.ensure([api_server(["127.0.0.1"])])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.certificate("apiserver"), pki.key("apiserver"))
    with serving(context) as port:
        url = f"https://127.0.0.1:{port}"
        trusting = Extender(url, tls={"caFile": str(pki.certificate("ca"))})
        assert asyncio.run(asked(trusting))["path"] == "/filter"
        assert asyncio.run(asked(Extender(url, tls={"insecure": True})))["path"] == "/filter"
        with pytest.raises(ExtenderError, match="certificate"):
            asyncio.run(asked(Extender(url)))
