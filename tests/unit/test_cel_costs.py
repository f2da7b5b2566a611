"""What expressions cost: as estimated before there are values, and as counted while they run.

The numbers are upstream's. Estimates are of worst cases; at run time constants are folded, as the server does.
"""

from __future__ import annotations

from typing import Any

import pytest

from proa.meta.cel import CelError, CostExceeded, Environment, Estimate, adapter, schema_type
from proa.meta.cel.library.authorization import Authorizer
from proa.meta.cel.schema_sizes import schema_sizes
from proa.meta.cel.sizes import MAX
from proa.meta.cel.types import DYN, Type

# Estimate at least and at most, then the expression.
ESTIMATES = """
15 15 [1, 2, 3, 4, 5].sum()
20 20 [uint(1), uint(2), uint(3), uint(4), uint(5)].sum()
20 20 [duration('1s'), duration('2s'), duration('3s'), duration('4s'), duration('5s')].sum()
15 15 [false, true, false, true, false].isSorted()
15 15 [1.0, 2.0, 3.0, 4.0, 5.0].max()
15 15 [1, 2, 3, 4, 5].indexOf(3)
5 5 '01234567890123456789012345678901234567890123456789'.indexOf('123')
4 4 url('https:://kubernetes.io/').getHost()
2 2 ip('192.168.0.1')
4 4 ip('2001:db8:3333:4444:5555:6666:7777:8888')
3 3 ip('192.168.0.1').isLoopback()
5 5 ip('192.168.0.1') == ip('192.168.0.1')
5 5 cidr('192.168.0.0/16') == cidr('2001:db8::/32')
3 3 ip.isCanonical('192.168.0.1')
8 8 ip.isCanonical('2001:db8:3333:4444:5555:6666:7777:8888')
3 3 cidr('192.168.0.0/16').ip()
7 11 cidr('192.168.0.0/16').containsCIDR(cidr('192.0.0.0/30'))
7 11 cidr('192.168.0.0/16').containsCIDR('192.0.0.0/30')
4 7 cidr('192.168.0.0/16').containsIP(ip('192.0.0.1'))
5 8 cidr('192.168.0.0/16').containsIP('192.169.0.1')
7 10 cidr('2001:db8::/32').containsIP(ip('2001:db8:3333:4444:5555:6666:7777:8888'))
3 3 'ABCDEFGHIJ abcdefghij'.lowerAscii()
7 9 'ABCDEFGHIJ abcdefghij'.lowerAscii() == 'abcdefghij ABCDEFGHIJ'.lowerAscii()
3 3 strings.quote('ABCDEFGHIJ abcdefghij')
7 11 strings.quote('ABCDEFGHIJ abcdefghij') == strings.quote('ABCDEFGHIJ abcdefghij')
3 3 'abc 123 def 123'.replace('123', '456')
3 3 'abc 123 def 123'.replace('', 'x')
3 3 'abc 123 def 123'.split(' ')
3 3 'abc 123 def 123'.split(' ', 1)
2 2 'abc 123 def 123'.substring(5, 8)
2 2 '  abc 123 def 123  '.trim()
2 2 'abc 123 def 123'.find('123')
2 2 'abc 123 def 123'.findAll('123', 1)
2 2 authorizer.path('/healthz')
6 6 authorizer.group('apps').resource('deployments').subresource('status').namespace('test').name('backend')
350003 350003 authorizer.path('/healthz').check('get').allowed()
350007 350007 authorizer.group('apps').resource('d').subresource('s').namespace('t').name('b').check('create').errored()
1 1 quantity('12Mi')
1 1 isQuantity('20')
3 3 quantity('200M') == quantity('0.2G')
3 3 quantity('50M').isLessThan(quantity('50Mi'))
4 4 quantity('200M').compareTo(quantity('0.2G')) > 0
5 5 quantity('50k').add(quantity('20')) == quantity('50.02k')
6 6 quantity('50k').add(20).sub(quantity('100k')).asInteger() > 0
3 3 quantity('50.703k').asApproximateFloat() > 0.0
21 21 sets.contains([], [])
22 22 sets.contains([1], [1])
29 29 sets.contains([1, 2, 3, 4], [2, 3])
53 53 sets.contains([[1], [2, 3]], [[2, 3]])
23 23 sets.equivalent([1], [1])
39 39 sets.equivalent([1, 2, 3], [3, 2, 1])
23 23 sets.intersects([1], [1, 1])
24 24 !sets.intersects([1], [1, 2])
37 41 {'a': 1, 'b': 2}.all(k, v, v > 0)
39 43 {'a': 1, 'b': 2}.exists(k, v, v > 0)
38 40 {'a': 1, 'b': 2}.existsOne(k, v, v > 0)
71 71 {'a': 1, 'b': 2}.transformMap(k, v, v + 1)
67 75 {'a': 1, 'b': 2}.transformMap(k, v, v < 5, v + 1)
131 131 {'a': 1, 'b': 2}.transformMapEntry(k, v, {k: v + 1})
67 135 {'a': 1, 'b': 2}.transformMapEntry(k, v, v < 5, {k: v + 1})
17 21 [1, 2].all(i, v, v > 0)
18 20 [1, 2].existsOne(i, v, v > 0)
49 49 [1, 2].transformList(i, v, v + 1)
27 53 [1, 2].transformList(i, v, v < 5, v + 1)
"""

OBJECT: dict[str, Any] = {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "string"}}}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "n": {"type": "integer"},
        "text": {"type": "string"},
        "short": {"type": "string", "maxLength": 10},
        "level": {"type": "string", "enum": ["Pending", "Available"]},
        "bytes": {"type": "string", "format": "byte"},
        "span": {"type": "string", "format": "duration"},
        "at": {"type": "string", "format": "date-time"},
        "ints": {"type": "array", "items": {"type": "integer"}},
        "few": {"type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 20}},
        "set": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
        "map": {"type": "object", "additionalProperties": {"type": "integer"}},
        "a": {"type": "object", "properties": {"b": {"type": "integer"}, "d": {"type": "object", "properties": {}}}},
        "list": {
            "type": "array",
            "items": {"type": "object", "properties": {**OBJECT["properties"], "v2": {"type": "string"}}},
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["k"],
        },
    },
}
SELF = {
    **{"n": 5, "text": "Rook takes 👑", "short": "x", "level": "Pending", "bytes": "QUI=", "span": "1h2m3s4ms"},
    **{"at": "2011-08-18T19:03:37.01+01:00", "ints": [1, 2, 3], "few": ["a"], "set": ["a", "b", "c"]},
    **{"map": {"b": 1, "d": 2}, "a": {"b": 1}},
    "list": [{"k": "a1", "v": "b1"}, {"k": "a2", "v": "b2"}, {"k": "a3", "v": "b3", "v2": "z"}],
}
# What a run costs, then the expression.
ACTUAL = """
3 self.n == 5
4 type(self.n) == int
5 self.n + 1 == 5 + 1
1 double(5) < 10.0
4 double(self.n) < 10.0
4 self.text.startsWith('Rook')
5 !self.text.startsWith('knight')
8 self.text.matches('^[^0-9]*$')
4 size(self.text) == 12
4 self.text.charAt(3) == 'k'
4 self.text.indexOf('o') == 1
7 self.text.replace(' ', 'x') == 'Rookxtakesx👑'
6 self.text.split(' ') == ['Rook', 'takes', '👑']
5 self.text.substring(5) == 'takes 👑'
6 self.text.upperAscii() == 'ROOK TAKES 👑'
3 self.bytes == b'AB'
4 size(self.bytes) == 2
4 self.span == duration('1h2m') + duration('3s4ms')
4 self.span.getHours() == 1
4 type(self.span) == google.protobuf.Duration
4 self.at.getDate('01:00') == 18
3 self.level == 'Pending'
2 self.level in ['Pending', 'Available']
5 1 in self.ints
6 !(0 in self.ints)
4 self.ints + [4, 5] == [1, 2, 3, 4, 5]
3 self.set == ['c', 'b', 'a']
5 'a' in self.set
8 self.set[0] in self.set
4 self.set + ['c', 'd'] == ['a', 'b', 'c', 'd']
3 'b' in self.map
2 has(self.a.b)
3 !has(self.a.d)
2 has(self.map.b)
17 self.map.all(k, self.map[k] > 0)
14 self.map.exists_one(k, self.map[k] == 2)
17 !self.map.exists_one(k, self.map[k] > 0)
26 size(self.map.filter(k, self.map[k] > 1)) == 1
3 has(self.list[0].v)
21 self.list.all(m, m.k.startsWith('a'))
21 self.list.all(m, !has(m.v2) || m.v2 == 'z')
13 self.list.exists(m, m.k.endsWith('1'))
15 self.list.exists_one(m, m.k == 'a3')
18 !self.list.all(m, m.k.endsWith('1'))
25 !self.list.exists(m, m.v == 'x')
20 !self.list.exists_one(m, m.k.startsWith('a'))
27 size(self.list.filter(m, m.k == 'a1')) == 1
16 self.list.exists(m, m.k == 'a1' && m.v == 'b1')
55 self.list.map(m, m.v).exists(v, v == 'b1')
21 self.list.exists(m, has(m.v2) && m.v2 == 'z')
10 !self.list.all(m, has(m.v2) && m.v2 != 'z')
12 self.list.exists_one(m, has(m.v2) && m.v2 == 'z')
24 self.list.filter(m, has(m.v2) && m.v2 == 'z').size() == 1
25 self.list.map(m, has(m.v2) && m.v2 == 'z', m.v2).size() == 1
39 self.list.filter(m, has(m.v2) && m.v2 == 'z').map(m, m.v2).size() == 1
24 self.list.exists(m, m.v2 == 'z')
22 !self.list.all(m, m.v2 != 'z')
"""
SELF_TYPE = schema_type(SCHEMA)
assert SELF_TYPE is not None
ENVIRONMENT = Environment({"self": SELF_TYPE, "object": DYN, "authorizer": Type("kubernetes.authorization.Authorizer")})


def values() -> dict[str, Any]:
    adapt = adapter(SCHEMA)
    assert adapt is not None
    return {"self": adapt(SELF), "object": {}, "authorizer": Authorizer(lambda *_, account: (True, ""))}


@pytest.mark.parametrize("line", ESTIMATES.strip().splitlines())
def test_estimate(line: str) -> None:
    low, high, source = line.split(" ", 2)
    assert ENVIRONMENT.compile(source).estimate() == Estimate(int(low), int(high))


@pytest.mark.parametrize("line", ACTUAL.strip().splitlines())
def test_cost_of_a_run(line: str) -> None:
    cost, source = line.split(" ", 1)
    assert ENVIRONMENT.compile(source).measure(values()) == (True, int(cost))


@pytest.mark.parametrize(
    ("source", "most"),
    [
        ("self.n == 5", 2),  # a number of a schema has no size, so that comparing it is free
        ("self.short == 'abc'", 3),  # 3 of 40 bytes are compared
        ("self.text == self.text", 314577),
        ("self.few.all(x, x.startsWith('ab'))", 2 + 5 * (1 + 2 + 1 + 1) + 1),
        ("self.few.exists(x, x.contains('ab'))", 2 + 5 * (1 + 3 + 1 + 8) + 1),
        ("self.ints.all(x, x > 0)", 2 + 1572863 * 5 + 1),
        ("self.map.all(k, self.map[k] > 0)", 2 + 449389 * 8 + 1),
        ("self.list.all(x, self.list.all(y, x.k == y.k))", None),
        ("self.text + string(self.n) == ''", None),
        ("self.level == self.level", 5),
        ("self.at == self.at", 8),
        ("object.q.w == 1", 2),
    ],
)
def test_estimate_of_a_schemas_values(source: str, most: int | None) -> None:
    found = ENVIRONMENT.compile(source).estimate(schema_sizes(SCHEMA))
    assert found.high == most if most is not None else found.high > 10**11
    assert found.high <= MAX


def test_a_run_stops_at_its_limit() -> None:
    program = ENVIRONMENT.compile("self.list.all(x, self.list.all(y, x.k != '' && y.k != ''))")
    assert program.run(values()) is True
    with pytest.raises(CostExceeded, match="operation cancelled: actual cost limit exceeded") as raised:
        program.run(values(), limit=20)
    assert raised.value.cost == 21


def test_no_macro_absorbs_the_limit() -> None:
    program = ENVIRONMENT.compile("self.ints.exists(x, [1, 2, 3].all(y, y > x)) || true")
    with pytest.raises(CostExceeded):
        program.run(values(), limit=5)


def test_an_error_tells_its_cost() -> None:
    with pytest.raises(CelError) as raised:
        ENVIRONMENT.compile("self.list[0].v2 == 'x'").run(values())
    assert raised.value.cost == 5
