"""DNS messages on the wire: questions in, answers out. Knows no sockets.

Answers of addresses alone, nearly all there are, are put together by hand; everything else goes through dnslib.
"""

from __future__ import annotations

import functools
import ipaddress
import random
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import dnslib

from proa.dns.records import AAAA, ANY, CNAME, PTR, SOA, SRV, TTL_SECONDS, TXT, A, Answer, Record

UDP_BYTES_PLAIN = 512
UDP_BYTES_MAX = 1232  # what passes every path without fragments
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)
_IN = 1
_OPT = 41


@dataclass(frozen=True, slots=True)
class Question:
    """A query with one question. `name` is in lower case without final dot; `raw` is the question as asked."""

    id: int
    name: str
    type: int
    raw: bytes
    recursion: bool
    udp_bytes_max: int
    edns: bool


class BadMessage(ValueError):
    """Not a query that can be answered; `id` is that of the message, if it has one."""

    def __init__(self, text: str, id: int | None = None, code: int = FORMERR) -> None:
        super().__init__(text)
        self.id = id
        self.code = code


def parse(data: bytes) -> Question:
    """Reads a query; raises BadMessage."""
    if len(data) < 12:
        raise BadMessage("too short")
    number, flags, questions, _, _, additional = struct.unpack_from("!6H", data)
    if flags & 0x8000:
        raise BadMessage("not a query")
    if flags >> 11 & 0xF:
        raise BadMessage("not a standard query", number, NOTIMP)
    if questions != 1:
        raise BadMessage("not one question", number)
    labels, at = [], 12
    try:
        while length := data[at]:
            if length > 63 or at - 12 > 255:
                raise BadMessage("bad name", number)
            labels.append(data[at + 1 : at + 1 + length])
            at += 1 + length
        kind, klass = struct.unpack_from("!2H", data, at + 1)
    except (IndexError, struct.error):
        raise BadMessage("cut short", number) from None
    if klass not in (_IN, ANY):
        raise BadMessage("not the Internet class", number, REFUSED)
    end = at + 5
    size, edns = UDP_BYTES_PLAIN, False
    if additional and len(data) >= end + 11 and data[end] == 0:
        option, asked = struct.unpack_from("!2H", data, end + 1)
        if option == _OPT:
            edns, size = True, max(UDP_BYTES_PLAIN, min(asked, UDP_BYTES_MAX))
    name = b".".join(labels).decode("ascii", "replace").lower()
    return Question(number, name, kind, data[12:end], bool(flags & 0x100), size, edns)


def query(name: str, kind: int) -> bytes:
    """A plain question, recursion desired."""
    return bytes(dnslib.DNSRecord(q=dnslib.DNSQuestion(name, kind)).pack())


def failure(question: Question, code: int) -> bytes:
    """An answer with no records and this code."""
    return _header(question, code, authoritative=False) + question.raw + _edns(question)


def reply_to_bad(error: BadMessage) -> bytes:
    """What to say to a message that could not be read; nothing if it is not even clear whom to answer."""
    return b"" if error.id is None else struct.pack("!6H", error.id, 0x8000 | error.code, 0, 0, 0, 0)


def render(question: Question, answer: Answer, domain: str, size_max: int) -> bytes:
    """Encodes an answer; longer than `size_max` bytes, it is cut and says so (the client asks again over TCP)."""
    records = list(answer.records)
    random.shuffle(records)
    if records and all(record.type in (A, AAAA) and record.name == question.name for record in records):
        message = _addresses(question, records)
        return message if len(message) <= size_max else _truncated(question)
    if not records:
        return _nothing(question, answer.exists, domain)
    reply = dnslib.DNSRecord(
        dnslib.DNSHeader(id=question.id, qr=1, aa=1, rd=int(question.recursion), ra=1),
        q=dnslib.DNSQuestion(question.name, question.type),
    )
    for record in records:
        reply.add_answer(_resource(record))
    for record in answer.extra:
        reply.add_ar(_resource(record))
    if question.edns:
        reply.add_ar(dnslib.EDNS0(udp_len=UDP_BYTES_MAX))
    message = _as_asked(question, reply)
    return message if len(message) <= size_max else _truncated(question)


def with_aliases(question: Question, aliases: Sequence[Record], rest: bytes, size_max: int) -> bytes:
    """Aliases, followed by the records of `rest`: the answer to the same question about the last one's target.

    A `rest` that cannot be read, as others may send it, is none.
    """
    reply = dnslib.DNSRecord(
        dnslib.DNSHeader(id=question.id, qr=1, aa=0, rd=int(question.recursion), ra=1),
        q=dnslib.DNSQuestion(question.name, question.type),
    )
    for alias in aliases:
        reply.add_answer(_resource(alias))
    with suppress(dnslib.DNSError):
        for record in dnslib.DNSRecord.parse(rest).rr if rest else ():
            reply.add_answer(record)
    if question.edns:
        reply.add_ar(dnslib.EDNS0(udp_len=UDP_BYTES_MAX))
    encoded = _as_asked(question, reply)
    return encoded if len(encoded) <= size_max else _truncated(question)


def _as_asked(question: Question, reply: dnslib.DNSRecord) -> bytes:
    """Encodes a reply with the question as it was asked: some clients look at upper and lower case."""
    message = bytes(reply.pack())
    return message[:12] + question.raw + message[12 + len(question.raw) :]


def _nothing(question: Question, exists: bool, domain: str) -> bytes:
    """No such name, or none of this type. The name may hold any bytes, so it stays as it is."""
    code = NOERROR if exists else NXDOMAIN
    head = _header(question, code, authoritative=True, authorities=1)
    return head + question.raw + _authority(domain) + _edns(question)


def _header(
    question: Question,
    code: int,
    *,
    authoritative: bool,
    answers: int = 0,
    authorities: int = 0,
    truncated: bool = False,
) -> bytes:
    flags = 0x8080 | code | authoritative << 10 | truncated << 9 | question.recursion << 8
    return struct.pack("!6H", question.id, flags, 1, answers, authorities, int(question.edns))


def _edns(question: Question) -> bytes:
    return struct.pack("!BHHIH", 0, _OPT, UDP_BYTES_MAX, 0, 0) if question.edns else b""


def _truncated(question: Question) -> bytes:
    return _header(question, NOERROR, authoritative=True, truncated=True) + question.raw + _edns(question)


def _addresses(question: Question, records: Sequence[Record]) -> bytes:
    parts = [_header(question, NOERROR, authoritative=True, answers=len(records)), question.raw]
    for record in records:
        packed = ipaddress.ip_address(str(record.data)).packed
        parts += [struct.pack("!3HIH", 0xC00C, record.type, _IN, TTL_SECONDS, len(packed)), packed]
    return b"".join(parts) + _edns(question)


def _resource(record: Record) -> dnslib.RR:
    data = record.data
    makers = {A: dnslib.A, AAAA: dnslib.AAAA, PTR: dnslib.PTR, CNAME: dnslib.CNAME, TXT: dnslib.TXT}
    rdata = dnslib.SRV(*data) if record.type == SRV else makers[record.type](data)
    return dnslib.RR(record.name, record.type, rdata=rdata, ttl=TTL_SECONDS)


@functools.cache
def _authority(domain: str) -> bytes:
    """The zone's SOA record, by which resolvers know how long to remember that there is nothing."""
    zone, server, mailbox = (_name(f"{prefix}{domain}") for prefix in ("", "ns.dns.", "hostmaster."))
    data = server + mailbox + struct.pack("!5I", 1, 7200, 1800, 86400, TTL_SECONDS)
    return zone + struct.pack("!2HIH", SOA, _IN, TTL_SECONDS, len(data)) + data


def _name(text: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in text.split(".")) + b"\0"
