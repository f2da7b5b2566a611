"""SPDY/3.1 framing without I/O: bytes in, events out; and the frames to send, as bytes.

Follows the SPDY protocol draft 3.1, as far as Kubernetes' exec, attach and port-forward use it. Flow control windows
are read over: the deployed peers (Go's spdystream) neither send window updates nor obey them; back-pressure is TCP's.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_SYN_STREAM, _SYN_REPLY, _RST_STREAM, _PING, _GOAWAY, _HEADERS = 1, 2, 3, 6, 7, 8
_FLAG_FIN = 1
_CONTROL = 0x8000
_VERSION = 3
_HEADER_BLOCK_MAX = 64 * 1024
_FRAME_BYTES_MAX = 1024 * 1024
DATA_BYTES_MAX = 64 * 1024  # of one data frame that we send

PROTOCOL_ERROR, INVALID_STREAM, REFUSED_STREAM, CANCEL, INTERNAL_ERROR = 1, 2, 3, 5, 6


def _dictionary() -> bytes:
    """The header compression dictionary of the draft: words with their lengths, then loose text."""
    text = (
        "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age "
        "allow authorization cache-control connection content-base content-encoding content-language content-length "
        "content-location content-md5 content-range content-type date etag expect expires from host if-match "
        "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
        "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
        "user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie "
        "keep-alive origin"
    )
    loose = (
        "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
        "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
        "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
        "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
        "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
        "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
    )
    spelled = (word.replace("_", " ").encode() for word in text.split())
    return b"".join(struct.pack(">I", len(word)) + word for word in spelled) + loose.encode()


DICTIONARY = _dictionary()


class SpdyError(Exception):
    """The peer broke the protocol; the connection is of no further use."""


class StreamOpened(NamedTuple):
    """The peer opened a stream; header names are lower case, repeated values joined by NUL."""

    stream: int
    headers: dict[str, str]
    fin: bool


class StreamAccepted(NamedTuple):
    stream: int
    headers: dict[str, str]
    fin: bool


class DataReceived(NamedTuple):
    """`fin` closes the peer's half of the stream."""

    stream: int
    data: bytes
    fin: bool


class StreamReset(NamedTuple):
    stream: int
    status: int


class Pinged(NamedTuple):
    id: int


class WentAway(NamedTuple):
    last_stream: int
    status: int


Event = StreamOpened | StreamAccepted | DataReceived | StreamReset | Pinged | WentAway


class Framing:
    """The state of one connection's framing: partial input and the two header compression contexts."""

    def __init__(self) -> None:
        self._input = bytearray()
        self._deflate = zlib.compressobj(zdict=DICTIONARY)
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)

    def receive(self, data: bytes) -> Iterator[Event]:
        """Takes bytes and yields the events of the frames that they complete; raises SpdyError."""
        self._input += data
        while len(self._input) >= 8:
            first, second = struct.unpack_from(">II", self._input)
            length, flags = second & 0xFFFFFF, second >> 24
            if length > _FRAME_BYTES_MAX:
                raise SpdyError("the frame is too large")
            if len(self._input) < 8 + length:
                return
            payload = bytes(self._input[8 : 8 + length])
            del self._input[: 8 + length]
            if not first >> 31:
                yield DataReceived(first, payload, bool(flags & _FLAG_FIN))
            elif (first >> 16) & 0x7FFF != _VERSION:
                raise SpdyError("not SPDY/3")
            elif (event := self._control(first & 0xFFFF, flags, payload)) is not None:
                yield event

    def _control(self, kind: int, flags: int, payload: bytes) -> Event | None:
        fin = bool(flags & _FLAG_FIN)
        try:
            if kind == _SYN_STREAM:
                return StreamOpened(_id(payload, 0), self._headers(payload[10:]), fin)
            if kind == _SYN_REPLY:
                return StreamAccepted(_id(payload, 0), self._headers(payload[4:]), fin)
            if kind == _HEADERS:
                self._headers(payload[4:])  # of no use to us, but the compression context must advance
                return DataReceived(_id(payload, 0), b"", True) if fin else None
            if kind == _RST_STREAM:
                return StreamReset(_id(payload, 0), _id(payload, 4))
            if kind == _PING:
                return Pinged(struct.unpack_from(">I", payload)[0])
            if kind == _GOAWAY:
                return WentAway(_id(payload, 0), _id(payload, 4) if len(payload) >= 8 else 0)
        except (struct.error, zlib.error, UnicodeDecodeError) as error:
            raise SpdyError(f"malformed frame of type {kind}") from error
        return None  # SETTINGS, WINDOW_UPDATE and what we don't know

    def _headers(self, block: bytes) -> dict[str, str]:
        plain = self._inflate.decompress(block, _HEADER_BLOCK_MAX)
        if self._inflate.unconsumed_tail:
            raise SpdyError("the headers are too large")
        (count,) = struct.unpack_from(">I", plain)
        texts: list[str] = []
        offset = 4
        for _ in range(min(count, 1000) * 2):
            (length,) = struct.unpack_from(">I", plain, offset)
            offset += 4
            texts.append(plain[offset : offset + length].decode())
            offset += length
        return {name.lower(): value for name, value in zip(texts[::2], texts[1::2], strict=True)}

    # ------------------------------------------------------------ frames to send

    def open_stream(self, stream: int, headers: Mapping[str, str], *, fin: bool = False) -> bytes:
        return _control(_SYN_STREAM, struct.pack(">IIBB", stream, 0, 0, 0) + self._block(headers), fin)

    def accept_stream(self, stream: int, headers: Mapping[str, str] | None = None) -> bytes:
        return _control(_SYN_REPLY, struct.pack(">I", stream) + self._block(headers or {}))

    def _block(self, headers: Mapping[str, str]) -> bytes:
        plain = [struct.pack(">I", len(headers))]
        for name, value in headers.items():
            plain += [struct.pack(">I", len(text)) + text for text in (name.lower().encode(), value.encode())]
        return self._deflate.compress(b"".join(plain)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)


def data(stream: int, payload: bytes, *, fin: bool = False) -> bytes:
    """Returns a data frame; `fin` closes our half of the stream."""
    return struct.pack(">II", stream, (_FLAG_FIN if fin else 0) << 24 | len(payload)) + payload


def reset_stream(stream: int, status: int) -> bytes:
    return _control(_RST_STREAM, struct.pack(">II", stream, status))


def ping(number: int) -> bytes:
    return _control(_PING, struct.pack(">I", number))


def go_away(last_stream: int, status: int = 0) -> bytes:
    return _control(_GOAWAY, struct.pack(">II", last_stream, status))


def _control(kind: int, payload: bytes, fin: bool = False) -> bytes:
    head = struct.pack(">HHI", _CONTROL | _VERSION, kind, (_FLAG_FIN if fin else 0) << 24 | len(payload))
    return head + payload


def _id(payload: bytes, offset: int) -> int:
    value: int = struct.unpack_from(">I", payload, offset)[0]
    return value & 0x7FFFFFFF
