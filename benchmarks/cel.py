"""CEL: compiling and running rules as custom resources have them, and what rules add to the validation of an object.

`python -m benchmarks.cel` is the process that is measured.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from benchmarks.figures import Figure
from benchmarks.lab import Lab, module

ROUNDS = 5
_ROUND_SECONDS = 0.2

_NAME: dict[str, Any] = {"type": "string", "maxLength": 63}
_COUNT: dict[str, Any] = {"type": "integer"}
_PART = {"type": "object", "properties": {"name": _NAME, "weight": _COUNT, "backend": _NAME, "redirect": _NAME}}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        **{"min": _COUNT, "max": _COUNT, "replicas": _COUNT, "kind": _NAME, "plain": _NAME, "secret": _NAME},
        "hosts": {"type": "array", "items": _NAME, "maxItems": 16},
        "parts": {"type": "array", "items": _PART, "maxItems": 16},
        "labels": {"type": "object", "additionalProperties": _NAME, "maxProperties": 32},
    },
}
OBJECT: dict[str, Any] = {
    **{"min": 1, "max": 9, "replicas": 3, "kind": "plain", "plain": "x"},
    "hosts": [f"host-{number}.example.com" for number in range(8)],
    "parts": [{"name": f"part-{number}", "weight": number, "backend": "service"} for number in range(8)],
    "labels": {f"label-{number}": "value" for number in range(8)},
}
_HOST = re.compile("^[a-z0-9.-]+$")
# Rules, each beside what a hand would have written in Python for it.
RULES: dict[str, Callable[[Any], bool]] = {
    "self.min <= self.replicas && self.replicas <= self.max": lambda it: it["min"] <= it["replicas"] <= it["max"],
    "self.kind == 'plain' ? has(self.plain) && !has(self.secret) : has(self.secret)": lambda it: (
        "plain" in it and "secret" not in it if it["kind"] == "plain" else "secret" in it
    ),
    "self.parts.all(p, has(p.backend) || has(p.redirect))": lambda it: all(
        "backend" in one or "redirect" in one for one in it["parts"]
    ),
    "self.parts.exists_one(p, p.name == 'part-3')": lambda it: sum(one["name"] == "part-3" for one in it["parts"]) == 1,
    "self.hosts.all(h, h.matches('^[a-z0-9.-]+$') && h.size() < 64)": lambda it: all(
        _HOST.search(one) and len(one) < 64 for one in it["hosts"]
    ),
    "self.parts.filter(p, p.weight > 3).map(p, p.weight).sum() < 100": lambda it: (
        sum(one["weight"] for one in it["parts"] if one["weight"] > 3) < 100
    ),
    "self.labels.all(k, k.startsWith('label-') && self.labels[k] != '')": lambda it: all(
        key.startswith("label-") and it["labels"][key] != "" for key in it["labels"]
    ),
    "self.parts.all(p, self.parts.exists_one(q, q.name == p.name))": lambda it: all(
        sum(other["name"] == one["name"] for other in it["parts"]) == 1 for one in it["parts"]
    ),
}
_OF_KUBERNETES_ALONE = (".sum()",)  # which the other implementation lacks


def rules(lab: Lab) -> Iterator[Figure]:
    found = module("benchmarks.cel", {})
    what = f"{len(RULES)} CEL rules"
    yield Figure(
        what=f"{what}: compiled", value=found["compile"], unit="rules/s", floor=found["theirs"], floor_is="cel-cpp"
    )
    yield Figure(
        what=f"{what}: run", value=found["run"], unit="rules/s", floor=found["python"], floor_is="Python by hand"
    )
    yield Figure(
        what=f"{what}: run, in cel-cpp's measure",
        value=found["run"],
        unit="rules/s",
        floor=found["theirs_run"],
        floor_is="cel-cpp",
    )
    yield Figure(
        what=f"object validated with its {len(RULES)} rules",
        value=found["ruled"],
        unit="/s",
        floor=found["unruled"],
        floor_is="without rules",
    )
    yield Figure(what=f"{what}: definition checked, with costs", value=found["checked"], unit="definitions/s")


def main() -> dict[str, float | None]:
    from proa.apis.apiextensions import acceptance
    from proa.apis.apiextensions.rules import Rules
    from proa.apis.apiextensions.structural import check_schema
    from proa.meta.cel import Environment, adapter, schema_type

    environment = Environment({"self": schema_type(SCHEMA)})
    programs = [environment.compile(one) for one in RULES]
    adapt = adapter(SCHEMA)
    seen = adapt(OBJECT) if adapt else OBJECT
    assert all(one.run({"self": seen}) is True for one in programs), "all rules are kept"
    assert all(one(OBJECT) for one in RULES.values())
    ruled = {**SCHEMA, "x-kubernetes-validations": [{"rule": one} for one in RULES]}
    rooted = {"type": "object", "properties": {"spec": ruled}}
    asked, root, accepts = Rules(rooted), {"spec": OBJECT}, acceptance.compiled(rooted)
    assert not check_schema(rooted, "schema")

    def compile_all() -> None:
        for one in RULES:
            environment.compile(one)

    def run_all() -> None:
        for one in programs:
            one.run({"self": seen})

    def by_hand() -> None:
        for one in RULES.values():
            one(OBJECT)

    def validate() -> None:
        assert accepts(root)

    def validate_ruled() -> None:
        validate()
        assert not asked.validate(root, None, [])[0]

    return {
        "compile": len(RULES) * rate(compile_all),
        "run": len(RULES) * rate(run_all),
        "python": len(RULES) * rate(by_hand),
        "unruled": rate(validate),
        "ruled": rate(validate_ruled),
        "checked": rate(lambda: check_schema(rooted, "schema")),
        **_theirs({"self": OBJECT}),
    }


def _theirs(data: Mapping[str, Any]) -> dict[str, float | None]:
    """Google's CEL in C++ on the same rules, where it is installed."""
    try:
        from cel_expr_python import cel
    except ImportError:
        return {"theirs": None, "theirs_run": None}
    sources = [one for one in RULES if not any(part in one for part in _OF_KUBERNETES_ALONE)]
    environment = cel.NewEnv(variables={"self": cel.Type.DYN})
    compiled = [environment.compile(one) for one in sources]
    assert all(one.eval(data=data).plain_value() is True for one in compiled)

    def compile_all() -> None:
        for one in sources:
            environment.compile(one)

    def run_all() -> None:
        for one in compiled:
            one.eval(data=data)

    return {"theirs": len(sources) * rate(compile_all), "theirs_run": len(sources) * rate(run_all)}


def rate(work: Callable[[], object]) -> float:
    """Returns how often a second holds the work: the best round, as other processes only take time."""
    work()
    best = 0.0
    for _ in range(ROUNDS):
        times, begun = 0, time.perf_counter()
        while (passed := time.perf_counter() - begun) < _ROUND_SECONDS:
            work()
            times += 1
        best = max(best, times / passed)
    return best


if __name__ == "__main__":
    print(json.dumps(main()))
