"""Shapes of HTTP/1.1 that servers and clients share: requests, responses, byte streams. Knows no Kubernetes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

Headers = Sequence[tuple[str, str]]


def utf8(value: str) -> str:
    """Reads a header's bytes (which arrive as Latin-1) as the UTF-8 that they are as a rule."""
    if value.isascii():
        return value
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


class Stream(Protocol):
    """A two-way byte stream: what is left of a connection after an upgrade (bytes already received included)."""

    async def read(self) -> bytes:
        """Returns the next bytes; empty at the end of the peer's half."""
        ...

    async def write(self, data: bytes) -> None:
        """Sends bytes; waits while the peer reads slowly. Raises ConnectionError if the peer is gone."""
        ...

    async def close(self) -> None: ...


class Body(Protocol):
    """A request's body, read on demand."""

    async def read(self, size_max: int) -> bytes:
        """Returns the whole body; raises BodyTooLarge as soon as it exceeds `size_max` bytes, BodyTooSlow if it does
        not arrive in time."""
        ...

    async def read_some(self) -> bytes:
        """Returns the next part of the body; empty at its end. For handlers that pass a body on."""
        ...


class BodyTooLarge(Exception):
    """The body is larger than its reader allows; the connection closes after the answer."""


class BodyTooSlow(Exception):
    """The body has not arrived within the time that a request may take; the connection closes after the answer."""


@dataclass(slots=True, kw_only=True)
class Request:
    """A request whose headers have arrived. Header names are lower case; `target` is the raw path with query.

    A header that came more than once is joined with commas in `headers`; `repeated` keeps its single values.
    `peer_certificate` is the verified client certificate in DER, or None. `upgrade(headers)` answers 101 with these
    headers and returns the raw stream; nothing else may be answered then.
    """

    method: str
    target: str
    headers: dict[str, str]
    body: Body
    peer_certificate: bytes | None
    peer_address: str
    upgrade: Callable[[Headers], Awaitable[Stream]]
    repeated: dict[str, list[str]] = field(default_factory=dict)

    def header(self, name: str, default: str = "") -> str:
        return self.headers.get(name, default)

    def header_values(self, name: str) -> list[str]:
        """Returns every value of a header, in order."""
        if name in self.repeated:
            return self.repeated[name]
        return [self.headers[name]] if name in self.headers else []


@dataclass(slots=True, kw_only=True)
class Response:
    """An answer: `body` is the whole as bytes (or a sequence of parts), or an async iterator of chunks, sent chunked,
    each flushed at once. Content-Length, Transfer-Encoding, Connection and Date are the server's to set. `head` is
    further header lines as bytes, each with its line end. `sent` is called when the answer has gone out, or cannot. A
    client that stops reading is cut off after a while, unless the answer is `patient`. `length` is the size of an
    iterated body, if it is known: it is told then, and nothing is chunked."""

    status: int = 200
    headers: Headers = ()
    body: bytes | Sequence[bytes] | AsyncIterator[bytes] = field(default=b"")
    head: bytes = b""
    sent: Callable[[], None] | None = None
    patient: bool = False
    length: int | None = None


# A handler returns the answer, or None after an upgrade.
Handler = Callable[[Request], Awaitable[Response | None]]
