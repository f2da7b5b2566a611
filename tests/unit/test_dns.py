"""Names of services, endpoints and pods, and the messages that carry them."""

import asyncio
import random
import socket
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import dnslib
import pytest

from proa.dns import message
from proa.dns.records import AAAA, CNAME, PTR, SRV, TXT, A, Record, Resolver
from proa.dns.server import DnsServer
from proa.meta.objects import Obj


def service(name: str, **spec: Any) -> Obj:
    return {"metadata": {"name": name, "namespace": "default"}, "spec": spec}


WEB = service(
    "web",
    clusterIP="10.96.1.1",
    clusterIPs=["10.96.1.1"],
    ports=[{"name": "http", "port": 80, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}],
)
DB = service("db", clusterIP="None", clusterIPs=["None"], ports=[{"name": "sql", "port": 5432}])
EMPTY = service("empty", clusterIP="None", clusterIPs=["None"])
ELSEWHERE = service("elsewhere", type="ExternalName", externalName="web.default.svc.cluster.local")
FURTHER = service("further", type="ExternalName", externalName="elsewhere.default.svc.cluster.local")
CIRCLE = service("circle", type="ExternalName", externalName="circle.default.svc.cluster.local")
DB_SLICE: Obj = {
    "metadata": {"name": "db-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "db"}},
    "addressType": "IPv4",
    "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
    "endpoints": [
        {"addresses": ["10.244.0.7"], "hostname": "db-0", "conditions": {"ready": True}},
        {"addresses": ["10.244.0.8"], "conditions": {"ready": True}},
        {"addresses": ["10.244.0.9"], "hostname": "db-2", "conditions": {"ready": False}},
    ],
}
WEB_SLICE: Obj = {
    "metadata": {"name": "web-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
    "addressType": "IPv4",
    "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    "endpoints": [{"addresses": ["10.244.1.1"], "conditions": {"ready": True}}],
}


class Cluster:
    services = {one["metadata"]["name"]: one for one in (WEB, DB, EMPTY, ELSEWHERE, FURTHER, CIRCLE)}

    def service(self, namespace: str, name: str) -> Obj | None:
        return self.services.get(name) if namespace == "default" else None

    def slices(self, namespace: str, name: str) -> Sequence[Obj]:
        return {"db": [DB_SLICE], "web": [WEB_SLICE]}.get(name, [])

    def has_namespace(self, name: str) -> bool:
        return name in ("default", "kube-system")

    def services_at(self, address: str) -> Sequence[Obj]:
        return [WEB] if address == "10.96.1.1" else []

    def slices_at(self, address: str) -> Sequence[Obj]:
        return [one for one in (DB_SLICE, WEB_SLICE) if any(address in each["addresses"] for each in one["endpoints"])]


RESOLVER = Resolver(Cluster())
SQL = (0, 50, 5432)
CASES = [
    ("web.default.svc", A, ["10.96.1.1"]),
    ("web.default.svc", AAAA, []),
    ("_http._tcp.web.default.svc", SRV, [(0, 100, 80, "web.default.svc.cluster.local")]),
    ("_dns._udp.web.default.svc", SRV, [(0, 100, 53, "web.default.svc.cluster.local")]),
    ("_http._udp.web.default.svc", SRV, None),
    ("db.default.svc", A, ["10.244.0.7", "10.244.0.8"]),
    ("db-0.db.default.svc", A, ["10.244.0.7"]),
    ("10-244-0-8.db.default.svc", A, ["10.244.0.8"]),
    ("db-2.db.default.svc", A, None),
    (
        "_sql._tcp.db.default.svc",
        SRV,
        [(*SQL, "db-0.db.default.svc.cluster.local"), (*SQL, "10-244-0-8.db.default.svc.cluster.local")],
    ),
    ("empty.default.svc", A, None),
    ("nothing.default.svc", A, None),
    ("web.other.svc", A, None),
    ("default.svc", A, []),
    ("nowhere.svc", A, None),
    ("svc", A, []),
    ("10-244-0-7.default.pod", A, ["10.244.0.7"]),
    ("10-244-0-7.nowhere.pod", A, None),
    ("web.default.pod", A, None),
    ("dns-version", TXT, ["1.1.0"]),
    ("elsewhere.default.svc", CNAME, ["web.default.svc.cluster.local"]),
]


@pytest.mark.parametrize(("name", "kind", "expected"), CASES)
def test_names(name: str, kind: int, expected: list[Any] | None) -> None:
    answer = RESOLVER.answer(f"{name}.cluster.local", kind)
    assert answer is not None
    assert answer.exists == (expected is not None)
    assert [record.data for record in answer.records] == (expected or [])


def test_reverse_names() -> None:
    def names(address: str) -> list[Any] | None:
        answer = RESOLVER.answer(".".join(reversed(address.split("."))) + ".in-addr.arpa", PTR)
        return None if answer is None else [record.data for record in answer.records]

    assert names("10.96.1.1") == ["web.default.svc.cluster.local"]
    assert names("10.244.0.7") == ["db-0.db.default.svc.cluster.local"]
    assert names("10.244.0.8") == ["10-244-0-8.db.default.svc.cluster.local"]
    assert names("10.244.0.9") is None
    assert names("10.244.1.1") is None  # an endpoint of a service with an address has no name of its own
    assert names("192.0.2.1") is None


def test_foreign_names_are_not_ours() -> None:
    assert RESOLVER.answer("example.org", A) is None
    assert RESOLVER.answer("notcluster.local", A) is None


@pytest.mark.parametrize("data", [b"", b"\0" * 11, b"\0" * 12, b"\x12\x34\x80\0" + b"\0" * 8, b"\xff" * 40])
def test_broken_messages_never_crash(data: bytes) -> None:
    with pytest.raises(message.BadMessage):
        message.parse(data)


def ask(name: str, kind: str, **header: Any) -> bytes:
    return bytes(dnslib.DNSRecord.question(name, kind).pack())


@pytest.fixture
async def server() -> Any:
    server = DnsServer(RESOLVER, ["127.0.0.1"], [], port=0)
    await server.start()
    yield server
    await server.stop()


async def udp(server: DnsServer, data: bytes) -> dnslib.DNSRecord:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.connect(("127.0.0.1", server.port))
        await loop.sock_sendall(sock, data)
        return dnslib.DNSRecord.parse(await asyncio.wait_for(loop.sock_recv(sock, 65535), 5))


async def test_serves_udp(server: DnsServer) -> None:
    query = dnslib.DNSRecord.question("WEB.default.svc.Cluster.local", "A")
    reply = await udp(server, query.pack())
    assert reply.header.id == query.header.id
    assert str(reply.q.qname) == "WEB.default.svc.Cluster.local."
    assert [str(one.rdata) for one in reply.rr] == ["10.96.1.1"]
    missing = await udp(server, ask("nothing.default.svc.cluster.local", "A"))
    assert missing.header.rcode == message.NXDOMAIN
    assert missing.auth[0].rtype == dnslib.QTYPE.SOA


async def test_an_external_name_brings_what_it_stands_for(server: DnsServer) -> None:
    reply = await udp(server, ask("elsewhere.default.svc.cluster.local", "A"))
    assert [str(one.rdata) for one in reply.rr] == ["web.default.svc.cluster.local.", "10.96.1.1"]


async def test_what_nobody_can_answer_fails_at_once(server: DnsServer) -> None:
    reply = await udp(server, ask("example.org", "A"))
    assert reply.header.rcode == message.SERVFAIL


async def test_long_answers_are_cut_on_udp_and_whole_on_tcp(server: DnsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    many = [{"addresses": [f"10.244.1.{n}"], "conditions": {}} for n in range(1, 201)]
    monkeypatch.setitem(DB_SLICE, "endpoints", many)
    query = ask("db.default.svc.cluster.local", "A")
    reply = await udp(server, query)
    assert reply.header.tc
    assert reply.rr == []
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(struct.pack("!H", len(query)) + query)
    (length,) = struct.unpack("!H", await reader.readexactly(2))
    assert len(dnslib.DNSRecord.parse(await reader.readexactly(length)).rr) == 200
    writer.close()
    larger = dnslib.DNSRecord.question("web.default.svc.cluster.local", "A")
    larger.add_ar(dnslib.EDNS0(udp_len=4096))
    reply = await udp(server, larger.pack())
    assert reply.ar[0].rtype == dnslib.QTYPE.OPT


def test_any_bytes_are_answered_and_questions_come_back_as_they_were() -> None:
    """Names of any bytes, any case and any type: a well-formed question never goes without its answer."""
    server = DnsServer(RESOLVER, ["127.0.0.1"], [])
    chance = random.Random(7)
    pool = [b"web", b"WeB", b"db", b"db-0", b"elsewhere", b"default", b"Svc", b"pod", b"_http", b"_TCP", b"10-244-0-7"]
    pool += [b"\xff\xfe", b"\xc3\xa9", b"a.b", b"\0", b"*", b"x" * 50, b"\\"]
    for _ in range(5000):
        labels = [*chance.choices(pool, k=chance.randint(0, 3)), b"svc", b"cluSter", b"local"]
        name = b"".join(bytes([len(one)]) + one for one in labels) + b"\0"
        kind = chance.choice([1, 2, 5, 6, 12, 15, 16, 28, 33, 64, 65, 255, 65535])
        asked = name + struct.pack("!2H", kind, 1)
        answer = server.answer_now(struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + asked)
        if isinstance(answer, bytes):
            assert answer[:2] == b"\0\x07" and answer[12 : 12 + len(asked)] == asked
        damaged = bytearray(struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + asked)
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        server.answer_now(bytes(damaged[: chance.randint(0, len(damaged))]))


def test_an_alias_without_a_readable_answer_is_told_alone() -> None:
    question = message.parse(message.query("elsewhere.default.svc.cluster.local", A))
    alias = Record("elsewhere.default.svc.cluster.local", CNAME, "far.example.com")
    for rest in (b"", b"\xff" * 40):
        assert [
            str(one.rdata) for one in dnslib.DNSRecord.parse(message.with_aliases(question, [alias], rest, 512)).rr
        ] == ["far.example.com."]


async def test_aliases_of_aliases_are_followed_and_circles_end() -> None:
    server = DnsServer(RESOLVER, ["127.0.0.1"], [])

    async def ask(name: str, size_max: int = 512) -> dnslib.DNSRecord:
        data = message.query(f"{name}.default.svc.cluster.local", A)
        question = server.answer_now(data)
        assert isinstance(question, message.Question)
        return dnslib.DNSRecord.parse(await server.answer(replace(question, udp_bytes_max=size_max), data, tcp=False))

    assert [str(one.rdata) for one in (await ask("further")).rr] == [
        "elsewhere.default.svc.cluster.local.",
        "web.default.svc.cluster.local.",
        "10.96.1.1",
    ]
    assert (await ask("further", 60)).header.tc
    assert (await ask("circle")).header.rcode == message.SERVFAIL
