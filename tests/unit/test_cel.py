"""Expressions of CEL: what they evaluate to, and how wrong ones are shown."""

from __future__ import annotations

from typing import Any

import pytest

from proa.meta.cel import CelError, CompileError, Environment, adapter, schema_type
from proa.meta.cel.types import DYN, INT, Type

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "n": {"type": "integer"},
        "ratio": {"type": "number"},
        "at": {"type": "string", "format": "date-time"},
        "names": {"type": "array", "items": {"type": "string"}},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "a-b": {"type": "string"},
        "namespace": {"type": "string"},
        "port": {"x-kubernetes-int-or-string": True},
    },
}
SELF = {
    **{"n": 3, "ratio": 2, "at": "2024-02-29T12:00:00Z", "names": ["a", "b"], "labels": {"x": "1"}},
    **{"a-b": "dash", "namespace": "ns", "port": 80},
}
SELF_TYPE = schema_type(SCHEMA, resource=True)
assert SELF_TYPE is not None
ENVIRONMENT = Environment({"self": SELF_TYPE, "object": DYN})


def evaluate(source: str) -> Any:
    adapt = adapter(SCHEMA)
    assert adapt is not None
    return ENVIRONMENT.compile(source).run({"self": adapt(SELF), "object": {"data": {"k": "v", "n": 1}}})


TRUE = r"""
1 + 2 * 3 == 7 && -7 / 2 == -3 && -7 % 2 == -1
1 < 2.5 && 2u > 1 && 1.0 == 1.0
'a' + "b" == 'ab' && r'\d' == '\\d' && '\x41\u00e9' == 'Aé'
[1, 2] + [3] == [1, 2, 3] && 2 in [1, 2] && 'a' in {'a': 1}
{'a': {'b': [1]}}.a.b[0] == 1
self.n == 3 && self.ratio / 4.0 == 0.5 && self.at.getMonth() == 1 && self.at.getDayOfWeek() == 4
self.at + duration('24h') == timestamp('2024-03-01T12:00:00Z')
duration('1h30m').getMinutes() == 90 && string(duration('1.5s')) == '1.5s'
self.a__dash__b == 'dash' && self.__namespace__ == 'ns' && self.`a-b` == 'dash'
self.port == 80 && type(self.port) == int
has(self.n) && !has(self.labels.y) && has(object.data.k)
self.names.all(x, x.size() == 1) && self.names.exists(x, x == 'b') && self.names.exists_one(x, x == 'a')
self.names.map(x, x + '!') == ['a!', 'b!'] && [1, 2, 3].filter(x, x > 1) == [2, 3]
[1, 2, 3].map(x, x > 1, x * 2) == [4, 6]
self.names.all(i, x, i < 2 && x != '') && {'a': 1}.transformMap(k, v, v + 1) == {'a': 2}
[1, 2].transformList(i, v, i == 1, v) == [2] && {'a': 'b'}.transformMapEntry(k, v, {v: k}) == {'b': 'a'}
true || 1 / 0 == 1
1 / 0 == 1 || true
!(false && object.missing)
[0, 1].exists(x, 1 / x == 1)
object.?missing.orValue('d') == 'd' && object.data[?'k'].hasValue() && optional.none().or(optional.of(1)).value() == 1
{?'a': optional.none(), ?'b': optional.of(1)} == {'b': 1} && [?optional.none(), 2] == [2]
optional.of(2).optMap(x, x * 2).orValue(0) == 4
'a,b,c'.split(',') == ['a', 'b', 'c'] && ['a', 'b'].join('-') == 'a-b' && 'abc'.substring(1, 2) == 'b'
'Hello'.lowerAscii() == 'hello' && ' x '.trim() == 'x'
'aXbX'.replace('X', '-', 1) == 'a-bX' && 'abc'.charAt(1) == 'b'
'%s is %d, %.2f, %x'.format(['a', 1, 1.5, 255]) == 'a is 1, 1.50, ff'
'a1b22'.find('[0-9]+') == '1' && 'a1b22'.findAll('[0-9]+') == ['1', '22'] && 'abc'.matches('^a.c$')
[1, 2].sum() == 3 && [3, 1].min() == 1 && ['a', 'b'].isSorted() && [1, 2, 1].lastIndexOf(1) == 2
quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('50k').add(20).compareTo(quantity('50020')) == 0
isQuantity('1.3Gi') && !isQuantity('1x') && quantity('500m').isInteger() == false
url('https://u@h.example:80/p?a=1&a=2').getHost() == 'h.example:80' && url('https://[::1]:80/').getHostname() == '::1'
url('https://h/p?a=1&a=2').getQuery() == {'a': ['1', '2']} && !isURL('../x')
ip('127.0.0.1').isLoopback() && cidr('192.168.0.0/24').containsIP('192.168.0.9') && ip('::1').family() == 6
cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && !isCIDR('10.0.0.0') && !isIP('1.2.3')
format.dns1123Label().validate('Bad').hasValue()
!format.named('dns1123Label').value().validate('ok').hasValue()
semver('1.2.3').isLessThan(semver('1.10.0')) && semver('v1.2', true).minor() == 2
semver('1.0.0-rc1').isLessThan(semver('1.0.0'))
sets.contains([1, 2], [1]) && sets.equivalent([1, 2], [2, 1, 1]) && sets.intersects([1], [1, 2])
int('12') == 12 && string(1.0) == '1' && double('1.5') == 1.5 && bool('true') && uint(3) == 3u
self.metadata.name == '' || true
dyn(1) != dyn(true) && dyn(1) == dyn(1.0)
"""


@pytest.mark.parametrize("source", [line for line in TRUE.splitlines() if line])
def test_true(source: str) -> None:
    assert evaluate(source) is True


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("object.nope == 1", "no such key: nope"),
        ("1 / 0 == 1", "division by zero"),
        ("9223372036854775807 + 1 == 0", "integer overflow"),
        ("[1][3] == 1", "index out of bounds: 3"),
        ("object.data.k + 1 == 1", "no such overload"),
        ("quantity('zz') == quantity('1')", "quantities must match the regular expression"),
        ("optional.none().value() == 1", "optional.none() dereference"),
    ],
)
def test_errors_of_evaluation(source: str, message: str) -> None:
    with pytest.raises(CelError, match=message.replace("(", r"\(").replace(")", r"\)")):
        evaluate(source)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("    x", "ERROR: <input>:1:5: undeclared reference to 'x' (in container '')\n |     x\n | ....^"),
        ("self.nope == 1", "ERROR: <input>:1:5: undefined field 'nope'\n | self.nope == 1\n | ....^"),
        ("f(1)", "ERROR: <input>:1:2: undeclared reference to 'f' (in container '')\n | f(1)\n | .^"),
        (
            "1 + 'a'",
            "ERROR: <input>:1:3: found no matching overload for '_+_' applied to '(int, string)'\n | 1 + 'a'\n | ..^",
        ),
        ("[1, 'a']", "ERROR: <input>:1:5: expected type 'int' but found 'string'\n | [1, 'a']\n | ....^"),
        ("self.n.x", "ERROR: <input>:1:7: type 'int' does not support field selection\n | self.n.x\n | ......^"),
        (
            "1 +",
            "ERROR: <input>:1:4: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', "
            "'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}\n | 1 +\n | ...^",
        ),
    ],
)
def test_errors_of_compilation(source: str, text: str) -> None:
    with pytest.raises(CompileError) as raised:
        ENVIRONMENT.compile(source)
    assert str(raised.value) == text


def test_cost_is_limited() -> None:
    program = ENVIRONMENT.compile("[1, 2, 3].all(x, [1, 2, 3].all(y, x + y > 0))")
    assert program.run({}) is True
    with pytest.raises(CelError, match="cost limit exceeded"):
        program.run({}, limit=20)


def test_messages_know_their_type_and_failures_their_cost() -> None:
    structs = {"P": Type("P", (), {"a": ("a", INT)}.get)}
    environment = Environment({"x": DYN}, structs.get, {"twice(int) int": lambda number: number * 2})
    made = environment.compile("P{a: twice(2)}").run({})
    assert (made, made.cel_type) == ({"a": 4}, "P")
    assert str(environment.compile("[P{a: 1}]").type) == "list(P)"
    with pytest.raises(CelError) as failed:
        environment.compile("x.y.z == 1").run({"x": {"y": {}}})
    assert failed.value.cost == 4
