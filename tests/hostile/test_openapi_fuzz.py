"""schemathesis over our own OpenAPI documents: whatever they allow gets an answer of the right form, and no 500.

The operations come in a fixed random order, with a fixed seed, until the time is up; every run covers as many of them
as the machine allows.
"""

from __future__ import annotations

import json
import random
import time
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from tests.hostile.raw import Raw, Reply, refused

SEED = 20260611
SECONDS = 60.0
EXAMPLES = 3
OPERATIONS_MIN = 30
# Upstream's 500s for mistakes of the client: all say what was wrong.
KNOWN_500 = (
    *("resourceVersion", "failed to create typed patch object", "target.name: Required value"),
    *("unknown patch type", "expected a list for", "The order in patch list", "list element types are not identical"),
)
# What lasts on purpose, or belongs to a kubelet that is not there.
LASTING = ("/watch/", "/proxy", "/exec", "/attach", "/portforward", "/log")
# The documents say `*/*` of bodies, and name a form of patches that nobody sends unasked.
_INSTEAD = {"*/*": "application/json", "application/apply-patch+cbor": "application/merge-patch+json"}


def operations(raw: Raw) -> list[Any]:
    """Returns all operations of all documents, shuffled."""
    found = []
    for name in raw.ask("GET", "/openapi/v3").json["paths"]:
        document = raw.ask("GET", f"/openapi/v3/{name}").json
        schema = schemathesis.openapi.from_dict(document)
        found += [one.ok() for one in schema.get_all_operations()]
    chosen = [one for one in found if not any(part in one.path for part in LASTING)]
    random.Random(SEED).shuffle(chosen)
    return chosen


def sent(raw: Raw, case: Any, dice: random.Random) -> Reply:
    """Sends a case; more than half go to a namespace that exists and a name that may, so that more gets through."""
    places = {key: str(value) for key, value in (case.path_parameters or {}).items()}
    body = None if "NotSet" in type(case.body).__name__ else case.body
    if dice.random() < 0.6:
        places |= {key: value for key, value in {"namespace": "default", "name": "fuzz"}.items() if key in places}
        if isinstance(body, dict) and case.operation.method in ("post", "put"):
            body = {**body, "metadata": {"name": "fuzz"}}
    path = case.operation.path
    for key, value in places.items():
        path = path.replace("{" + key + "}", quote(value, safe=""))
    query = {key: value for key, value in (case.query or {}).items() if key not in ("watch", "follow")}
    target = path + (f"?{urlencode(query, doseq=True)}" if query else "")
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body)
    return raw.ask(case.operation.method.upper(), target, data, _INSTEAD.get(case.media_type, case.media_type or ""))


def judge(case: Any, reply: Reply) -> None:
    """Checks one answer: a Status for an error, an object or a document for a success."""
    shown = (
        case.operation.method,
        case.operation.path,
        case.query,
        str(case.body)[:300],
        reply.status,
        reply.body[:300],
    )
    if reply.status >= 500:
        assert reply.status in (500, 503, 504), shown
        message = refused(reply, reply.status)
        assert reply.status != 500 or message.startswith(KNOWN_500) or "merge key" in message, shown
    elif reply.status >= 400:
        refused(reply)
    else:
        assert reply.status in (200, 201, 202), shown
        assert "kind" in reply.json or case.operation.path.startswith(("/version", "/openid", "/.well-known")), shown


def test_every_operation(raw: Raw) -> None:
    assert (
        raw.ask("POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}}).status == 201
    )
    dice = random.Random(SEED)
    end = time.monotonic() + SECONDS
    answers: dict[int, int] = {}
    covered = 0
    for operation in operations(raw):
        if time.monotonic() > end:
            break
        covered += 1

        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        @given(operation.as_strategy())
        def check(case: Any) -> None:
            reply = sent(raw, case, dice)
            judge(case, reply)
            answers[reply.status] = answers.get(reply.status, 0) + 1

        check()
    assert covered >= OPERATIONS_MIN
    assert answers.get(200, 0) > 20 and answers.get(400, 0) + answers.get(422, 0) > 20, answers
    print(f"{covered} operations, {answers}")


pytestmark = pytest.mark.filterwarnings("ignore")
