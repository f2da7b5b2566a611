"""Names: what is accepted, and how many problems are found in what is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proa.meta import names


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (names.dns1123_label, ["a", "0-9", "a" * 63], ["", "A", "-a", "a-", "a.b", "a" * 64, "a\n"]),
        (names.dns1123_subdomain, ["a", "a.b-c", "1.2"], ["", "A", "a..b", ".a", "a.", "a_b", "a" * 254]),
        (names.dns1035_label, ["a", "a-9"], ["", "9a", "a-", "A"]),
        (
            names.qualified_name,
            ["a", "A_b.c", "x.io/A", "a" * 63],
            ["", "x.io/", "/a", "X/a", "a/b/c", "a b", "a" * 64],
        ),
        (names.label_value, ["", "a", "A.b_c-d"], ["-a", "a-", "a b", "a" * 64]),
        (names.env_name, ["A", "a.b-c", "_x"], ["", "1a", ".", "..", "..a", "a b"]),
        (names.relaxed_env_name, ["A", "1 a!"], ["", "a=b", "ä", "a\n"]),
        (names.config_key, ["a", "A.b_-"], ["", ".", "..", "..a", "a b", "a" * 254]),
        (names.port_name, ["a", "a-1", "a" * 15], ["", "1", "a--b", "-a", "a-", "A", "a" * 16]),
        (names.path_segment, ["a", "A b:c", "...", ""], [".", "..", "a/b", "a%b"]),
        (names.wildcard_subdomain, ["*.a.b"], ["*", "a.b", "*.*.a", "a.*.b"]),
        (names.ip, ["1.2.3.4", "::1"], ["", "1.2.3", "01.2.3.4", "fe80::1%eth0"]),
        (names.cidr, ["10.0.0.1/8", "::/0"], ["", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/255.0.0.0"]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_rule(check: Callable[[str], list[str]], good: list[str], bad: list[str]) -> None:
    assert [text for text in good if check(text)] == []
    assert [text for text in bad if not check(text)] == []


def test_generate_name_may_end_with_a_dash() -> None:
    assert names.dns1123_subdomain("web-", True) == []
    assert names.dns1123_subdomain("web--", True) == []
    assert names.dns1123_subdomain("web.", True)
    assert names.dns1123_subdomain("web-")


def test_problems_are_worded_as_upstream() -> None:
    assert names.qualified_name("x/y/z") == [
        "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
        "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
        "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' "
        "(e.g. 'example.com/MyName')"
    ]
    assert names.dns1123_label("a" * 64) == ["must be no more than 63 characters"]
    assert len(names.port_name("--")) == 3
