"""The subject of a certificate, read straight from its DER bytes.

The bytes come from a TLS connection that has verified them, so this only walks the structure (RFC 5280). It spares a
node agent the memory of a whole cryptography library for two fields.
"""

from __future__ import annotations

from collections.abc import Iterator

_COMMON_NAME, _ORGANIZATION = b"\x55\x04\x03", b"\x55\x04\x0a"
_VERSION_TAG = 0xA0
_WIDE = {0x1E: "utf-16-be", 0x1C: "utf-32-be"}  # BMPString, UniversalString; all others read as UTF-8


def subject(certificate: bytes) -> tuple[str, tuple[str, ...]]:
    """Returns (common name, organizations); the name is empty if there is none. Raises ValueError for other bytes."""
    try:
        signed = next(_elements(next(_elements(certificate))[1]))[1]
        fields = [content for tag, content in _elements(signed) if tag != _VERSION_TAG]
        names = list(_names(fields[4]))  # serial, algorithm, issuer, validity, subject
    except (IndexError, StopIteration) as error:
        raise ValueError("not a certificate") from error
    common = [text for kind, text in names if kind == _COMMON_NAME]
    return (common[0] if common else "", tuple(text for kind, text in names if kind == _ORGANIZATION))


def _names(content: bytes) -> Iterator[tuple[bytes, str]]:
    for _, together in _elements(content):
        for _, pair in _elements(together):
            (_, kind), (tag, value) = _elements(pair)
            yield kind, value.decode(_WIDE.get(tag, "utf-8"), "replace")


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields (tag, content) of the elements that follow each other in `data`."""
    at = 0
    while at < len(data):
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(data[at : at + size], "big")
            at += size
        if at + length > len(data):
            raise ValueError("cut off")
        yield tag, data[at : at + length]
        at += length
