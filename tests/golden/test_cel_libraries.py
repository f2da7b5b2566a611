"""Kubernetes' CEL functions, case by case; see `cel-libraries.txt`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proa.meta.cel import CelError, CompileError, Environment
from proa.meta.cel.library.authorization import Authorizer, resource_check
from proa.meta.cel.library.formatting import show
from proa.meta.cel.types import Type

CASES = [
    line
    for line in (Path(__file__).parent / "cel-libraries.txt").read_text().splitlines()
    if line and not line.startswith("#")
]
ENVIRONMENT = Environment(
    {
        "authorizer": Type("kubernetes.authorization.Authorizer"),
        "authorizer.requestResource": Type("kubernetes.authorization.ResourceCheck"),
    }
)


def ask(
    group: str, resource: str, subresource: str, namespace: str, name: str, path: str, verb: str, **more: Any
) -> tuple[bool, str]:
    if resource == "broken":
        raise RuntimeError("it broke")
    account = more["account"]
    if account:
        return False, ":".join(account)
    if "field_selector" in more:
        return True, f"{more['field_selector']} {more['label_selector']}"
    allowed = path == "/healthz" or (group, resource, namespace) == ("", "pods", "ok") or verb == "update"
    return allowed, "" if allowed else "not there"


VALUES = {
    "authorizer": Authorizer(ask),
    "authorizer.requestResource": resource_check(Authorizer(ask), "apps", "deployments", namespace="any"),
}


@pytest.mark.parametrize("case", CASES)
def test_case(case: str) -> None:
    source, good, wanted = case.partition(" => ")
    if good:
        assert show(ENVIRONMENT.compile(source).run(VALUES)) == wanted
        return
    source, _, wanted = case.partition(" !! ")
    with pytest.raises((CelError, CompileError)) as raised:
        ENVIRONMENT.compile(source).run(VALUES)
    found = raised.value
    texts = [text for _, text in found.issues] if isinstance(found, CompileError) else [str(found)]
    assert texts[0] == wanted
