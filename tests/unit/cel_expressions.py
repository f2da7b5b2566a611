"""Makes random CEL expressions of a wanted type from a seed, right ones and such as fail while they run."""

from __future__ import annotations

import random
import re

INTS = ("0", "1", "-1", "2", "3", "7", "-42", "9223372036854775807", "-9223372036854775808", "0x1f", "i")
UINTS = ("0u", "1u", "2u", "7u", "18446744073709551615u", "0x1fu")
DOUBLES = ("0.0", "1.0", "-1.5", "2.5", "1e3", "1e-7", "1e300", "0.1", "d")
STRINGS = (
    *('""', '"a"', "'b'", '"ab"', '"abc abc"', '"Hello World"', "'é👑'", '" pad "', '"1"', '"-7"', '"1.5"', '"true"'),
    *("'''tri\"ple'''", 'r"\\d+"', '"\\u00e9\\t\\x41\\101"', '"a,b,,c"', '"1h30m"', '"2020-02-29T12:30:45.5Z"', "s"),
)
BYTES = ('b""', 'b"abc"', 'b"\\xff\\x00"', 'b"é"')
TIMESTAMPS = (
    *(
        'timestamp("2020-02-29T12:30:45.5Z")',
        'timestamp("1969-12-31T23:59:59Z")',
        'timestamp("2011-08-18T19:03:37+01:00")',
    ),
    *(
        'timestamp("0001-01-01T00:00:00Z")',
        'timestamp("9999-12-31T23:59:59Z")',
        "timestamp(0)",
        "timestamp(1234567890)",
    ),
)
DURATIONS = ('duration("0s")', 'duration("1h30m")', 'duration("-1.5s")', 'duration("1ms")', 'duration("100h")')
LITERALS = {
    **{
        "int": INTS,
        "uint": UINTS,
        "double": DOUBLES,
        "string": STRINGS,
        "bytes": BYTES,
        "bool": ("true", "false", "b"),
    },
    **{"timestamp": TIMESTAMPS, "duration": DURATIONS, "null_type": ("null",)},
    **{
        "list:int": ("[]", "[1]", "[1, 2, 3]", "[3, 1, 2, 1]", "ints"),
        "list:string": ("[]", '["a"]', '["b", "a", "b"]'),
    },
    **{"map:string:int": ("{}", '{"a": 1}', '{"a": 1, "b": 2}', "m"), "dyn": ("x", "x.a", "x.l", "x.nope", "dyn(1)")},
    **{"key": ('"a"', '"b"', '"z"'), "small": ("0", "1", "2", "5", "-1"), "zone": ('"UTC"', '"+01:30"', '"-11:00"')},
    **{"pattern": ('"a"', '"^[a-z]+$"', '"[0-9]"', '"b|c"', '"(é)"'), "list:list:int": ("[[1], [2, 3]]", "[[]]")},
}
ARITHMETIC = ("$T + $T", "$T - $T", "$T * $T", "$T / $T")
CHOICE = ("($bool ? $T : $T)", "($T)")
ORDERED = ("int", "uint", "double", "string", "bytes", "bool", "timestamp", "duration")
ANY = (*ORDERED, "list:int", "list:string", "map:string:int", "null_type")
PARTS = [
    "FullYear",
    "Month",
    "Date",
    "DayOfMonth",
    "DayOfWeek",
    "DayOfYear",
    "Hours",
    "Minutes",
    "Seconds",
    "Milliseconds",
]
PRODUCTIONS: dict[str, tuple[str, ...]] = {
    "int": (
        *(one.replace("$T", "$" + "int") for one in ARITHMETIC),
        *("$int % $int", "-($int)", "size($string)", "$string.size()", "size($list:int)", "$map:string:int.size()"),
        *("size($bytes)", "$list:int[$small]", "$map:string:int[$key]", "$map:string:int.a", "int($string)"),
        *("int($double)", "int($uint)", "int($timestamp)", "$string.indexOf($string)", "$string.lastIndexOf($string)"),
        *("$string.indexOf($string, $small)", "$map:string:int[?$key].orValue($int)", "$list:int[?$small].orValue(4)"),
        *("$map:string:int.?a.orValue($int)", "optional.of($int).value()", "optional.ofNonZeroValue($int).orValue(9)"),
        *(f"$timestamp.get{part}()" for part in PARTS),
        *("$timestamp.getHours($zone)", "$timestamp.getDayOfMonth($zone)"),
        *(f"$duration.get{part}()" for part in ("Hours", "Minutes", "Seconds")),
        "optional.of($int).optMap(v, v + 1).orValue($int)",
    ),
    "uint": (
        *(one.replace("$T", "$" + "uint") for one in ARITHMETIC),
        "$uint % $uint",
        "uint($int)",
        "uint($double)",
        "uint($string)",
    ),
    "double": (
        *(one.replace("$T", "$" + "double") for one in ARITHMETIC),
        "-($double)",
        "double($int)",
        "double($uint)",
        "double($string)",
    ),
    "string": (
        *(
            "$string + $string",
            "string($int)",
            "string($uint)",
            "string($bool)",
            "string($bytes)",
            "string(duration('90m'))",
        ),
        *(
            "string($timestamp)",
            "$string.charAt($small)",
            "$string.lowerAscii()",
            "$string.upperAscii()",
            "$string.trim()",
        ),
        *("$string.replace($string, $string)", "$string.replace($string, $string, $small)", "$list:string.join()"),
        *("$list:string.join($string)", "$string.substring($small)", "$string.substring($small, $small)"),
        *(
            "$list:string[$small]",
            '"%s|%d|%s".format([$string, $int, $bool])',
            '"%.3f %x %X %b %o".format([0.5, $int, $string, $int, $uint])',
        ),
        *('"%s %s %s".format([$list:int, $double, null])', "strings.quote($string)", "string($double)"),
    ),
    "bytes": ("$bytes + $bytes", "bytes($string)"),
    "bool": (
        *("$bool && $bool", "$bool || $bool", "!($bool)", "$int in $list:int", "$string in $list:string"),
        *(
            "$key in $map:string:int",
            "has(x.a)",
            "has($map:string:int.a)",
            "has(x.o.p)",
            "has(x.nope.q)",
            "$string.startsWith($string)",
        ),
        *("$string.endsWith($string)", "$string.contains($string)", "$string.matches($pattern)", "bool($string)"),
        *("$list:int.all(v, $bool:v)", "$list:int.exists(v, $bool:v)", "$list:int.exists_one(v, $bool:v)"),
        *("$list:int.all(k, v, $bool:v)", "$list:int.exists(k, v, $bool:v)", "$list:int.existsOne(k, v, $bool:v)"),
        *("$map:string:int.all(k, v, $bool:v)", "$map:string:int.exists(k, $map:string:int[k] > 1)"),
        *(f"${one} {sign} ${one}" for one in ORDERED for sign in ("<", "<=", ">", ">=")),
        *(f"${one} {sign} ${one}" for one in ANY for sign in ("==", "!=")),
        *(
            "dyn($int) == $dyn",
            "$dyn == $dyn",
            "dyn($int) < dyn($double)",
            "dyn($uint) >= dyn($int)",
            "dyn($double) == dyn($uint)",
        ),
        *("type($dyn) == int", "type($int) == type($uint)", "$dyn == $string", "sets.contains($list:int, $list:int)"),
        *(
            "sets.equivalent($list:int, $list:int)",
            "sets.intersects($list:int, $list:int)",
            "$map:string:int[?$key].hasValue()",
        ),
        "optional.none() == optional.of($int)",
    ),
    "timestamp": ("$timestamp + $duration", "$duration + $timestamp", "$timestamp - $duration", "timestamp($string)"),
    "duration": ("$duration + $duration", "$duration - $duration", "$timestamp - $timestamp", "duration($string)"),
    "list:int": (
        *("$list:int + $list:int", "[$int, $int]", "$list:int.map(v, $int:v)", "$list:int.filter(v, $bool:v)"),
        *(
            "$list:int.map(v, $bool:v, $int:v)",
            "$list:int.transformList(k, v, $int:v - k)",
            "$list:int.slice($small, $small)",
        ),
        *(
            "$list:int.reverse()",
            "$list:int.distinct()",
            "$list:int.sort()",
            "$list:int.sortBy(v, $int:v)",
            "lists.range(size($string))",
        ),
        *("$list:list:int.flatten()", "[?$map:string:int[?$key], $int]", "$list:int.transformList(k, v, $bool:v, v)"),
    ),
    "list:string": (
        "[$string]",
        "$string.split($string)",
        "$string.split($string, $small)",
        "$map:string:int.map(k, k + $string).filter(k, size(k) < 2)",
        "$list:string.sort()",
    ),
    "map:string:int": ("{$string: $int}", "{'q': $int, $key: $int}", "{?'q': $map:string:int[?$key]}"),
    "list:list:int": ("[$list:int, $list:int]",),
    "dyn": ("dyn($int)", "dyn($double)", "dyn($string)", "dyn($list:int)", "x[$key]", "x.l[$small]", "x.o.p", "x.?a"),
}
VARIABLES = {
    "i": "int",
    "d": "double",
    "s": "string",
    "b": "bool",
    "ints": "list<int>",
    "m": "map<string, int>",
    "x": "dyn",
}
VALUES = {
    **{"i": 5, "d": 2.5, "s": "some text", "b": True, "ints": [4, 5, 6, 5], "m": {"a": 10, "c": 30}},
    "x": {"a": 1, "b": "two", "l": [1, "x", 2.5, None], "o": {"p": True}, "n": None},
}
_HOLE = re.compile(r"\$([a-z]+(?:_type)?(?::[a-z]+)*)")
_TYPES_WITH_VARIABLE = ("bool:v", "int:v")


class Maker:
    """Makes expressions; `wrong` is how often a part has another type than it should."""

    def __init__(self, seed: int, wrong: float = 0.0) -> None:
        self._random = random.Random(seed)
        self._wrong = wrong

    def expression(self, wanted: str = "", depth: int = 3) -> str:
        return self._of(wanted or self._random.choice([*ANY[:-1], "bool", "bool", "int"]), depth)

    def _of(self, wanted: str, depth: int, bound: str = "") -> str:
        pick = self._random
        if self._wrong and pick.random() < self._wrong:
            wanted = pick.choice(ANY)
        if wanted in _TYPES_WITH_VARIABLE:
            wanted, bound = wanted[:-2], "v"
        if bound and wanted == "int" and pick.random() < 0.4:
            return bound
        choices = PRODUCTIONS.get(wanted, ())
        if depth <= 0 or not choices or pick.random() < 0.15:
            return pick.choice(LITERALS[wanted])
        template = pick.choice([*choices, *(one.replace("$T", "$" + wanted) for one in CHOICE)])

        def filled(found: re.Match[str]) -> str:
            made = self._of(found[1], depth - 1, bound)
            return made if re.fullmatch(r"[\w.]+|\"[^\"]*\"", made) and not made.startswith("-") else f"({made})"

        return _HOLE.sub(filled, template)
