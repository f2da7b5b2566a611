"""A gzip body joined from parts that were compressed one by one: a change of one part compresses that part only."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_END = b"\x03\x00"  # an empty last block


def part(data: bytes) -> bytes:
    """Returns data compressed so that it can stand anywhere in a stream."""
    compressor = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush(zlib.Z_FULL_FLUSH)


def data_of(compressed: bytes) -> bytes:
    """Returns what `part` was given."""
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(compressed)


def joined(parts: Iterable[bytes]) -> bytes:
    """Returns the gzip stream of all parts, one after the other."""
    out, checksum, size = [_HEADER], 0, 0
    for one in parts:
        data = data_of(one)
        checksum, size = zlib.crc32(data, checksum), size + len(data)
        out.append(one)
    out += [_END, checksum.to_bytes(4, "little"), (size & 0xFFFFFFFF).to_bytes(4, "little")]
    return b"".join(out)
