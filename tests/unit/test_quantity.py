"""Quantities: canonical form, rounding, limits."""

from __future__ import annotations

import pytest

from proa.meta import quantity
from proa.meta.quantity import canonical, parse


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0", "0"),
        ("0Mi", "0"),
        ("-0", "0"),
        ("1000m", "1"),
        ("0.5", "500m"),
        (".5", "500m"),
        ("1.", "1"),
        ("+1.50", "1500m"),
        ("-1.5Gi", "-1536Mi"),
        ("0.1Gi", "107374182400m"),
        ("0.5Ki", "512"),
        ("1024Ki", "1Mi"),
        ("1000Ki", "1000Ki"),
        ("512Mi", "512Mi"),
        ("1500k", "1500k"),
        ("1000k", "1M"),
        ("1e3", "1e3"),
        ("1000e3", "1e6"),
        ("1E3", "1e3"),
        ("12e-1", "1200e-3"),
        ("1E", "1E"),
        ("1000E", "1000E"),
        ("0.1n", "1n"),
        ("-0.1n", "-1n"),
        ("1.0000000001", "1000000001n"),
        ("16Ei", "9223372036854775807"),
        ("1e400", "9223372036854775807e0"),
        ("  1 ", "1"),
        ("0.0001Mi", "104857600u"),
        (1, "1"),
        (1.5, "1500m"),
        (1e3, "1k"),
        (None, "0"),
    ],
)
def test_canonical(text: object, shown: str) -> None:
    assert canonical(text) == shown.removesuffix("e0")


@pytest.mark.parametrize(
    "text", ["", "abc", "-", "1 m", "1K", "1mi", "1.2.3", "0x1", [1], {}, True, "1e", "Mi", "1KiB", "1ee3"]
)
def test_refused(text: object) -> None:
    with pytest.raises(ValueError, match="quant"):
        parse(text)


def test_rounding_is_away_from_zero() -> None:
    assert [parse(text).value for text in ("1.1", "-1.1", "1", "1n")] == [2, -2, 1, 1]
    assert [parse(text).milli_value for text in ("1.1m", "-1.1m", "2")] == [2, -2, 2000]
    assert str(parse("1.0001").rounded_to_milli()) == "1001m"


def test_arithmetic_keeps_the_first_format() -> None:
    assert str(parse("1Gi").plus(parse("1024Mi"))) == "2Gi"
    assert str(parse("0").plus(parse("1Gi"))) == "1Gi"
    assert str(parse("1").minus(parse("1500m"))) == "-500m"
    assert str(quantity.total(map(parse, ("100m", "200m")))) == "300m"
    sums = quantity.add_maps(quantity.parse_map({"cpu": "1"}), quantity.parse_map({"cpu": "1", "memory": "1Mi"}))
    assert {name: str(one) for name, one in sums.items()} == {"cpu": "2", "memory": "1Mi"}


def test_comparison_is_by_amount() -> None:
    assert parse("1Ki").nano > parse("1k").nano and parse("1000m").nano == parse("1").nano
