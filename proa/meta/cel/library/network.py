"""Kubernetes' functions of URLs, IP addresses and networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, ClassVar
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

from proa.meta.cel.syntax import CelError


@dataclass(frozen=True, slots=True)
class Url:
    cel_type: ClassVar[str] = "kubernetes.URL"
    parts: SplitResult


@dataclass(frozen=True, slots=True)
class Address:
    cel_type: ClassVar[str] = "net.IP"
    ip: IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Network:
    """`address` is the one that was written; it may have bits beyond the prefix."""

    cel_type: ClassVar[str] = "net.CIDR"
    network: IPv4Network | IPv6Network
    address: IPv4Address | IPv6Address


def _url(text: str) -> Url:
    try:
        parts = urlsplit(text)
        assert parts.port is None or parts.port >= 0  # raises ValueError if it is no number
    except ValueError as error:
        raise CelError(f"URL parse error during conversion from string: {error}") from None
    if not parts.scheme and not text.startswith("/"):
        raise CelError(f'URL parse error during conversion from string: parse "{text}": invalid URI for request')
    return Url(parts)


def _host(one: Url) -> str:
    return one.parts.netloc.rpartition("@")[2]


def _hostname(one: Url) -> str:
    host = _host(one)
    return host[1 : host.index("]")] if host.startswith("[") and "]" in host else host.partition(":")[0]


def _ip(text: str) -> Address:
    try:
        found = ip_address(text)
    except ValueError:
        found = None
    if found is None or "%" in text:
        raise CelError(f'IP Address "{text}" parse error during conversion from string')
    if isinstance(found, IPv6Address) and found.ipv4_mapped:
        raise CelError(f'IPv4-mapped IPv6 address "{text}" is not allowed')
    return Address(found)


def _cidr(text: str) -> Network:
    address, slash, bits = text.partition("/")
    try:
        if not slash or not bits.isdigit() or (len(bits) > 1 and bits[0] == "0"):
            raise ValueError(text)
        return Network(ip_network(text, strict=False), _ip(address).ip)
    except (ValueError, CelError):
        raise CelError(f'network address parse error during conversion from string: invalid CIDR "{text}"') from None


def _holds(make: Callable[[str], Any]) -> Callable[[str], bool]:
    def run(text: str) -> bool:
        try:
            make(text)
        except CelError:
            return False
        return True

    return run


def _contains_cidr(one: Network, other: Network) -> bool:
    return one.network.version == other.network.version and other.network.subnet_of(one.network)  # type: ignore[arg-type]


def _text_too(make: Callable[[str], Any], run: Callable[[Network, Any], bool]) -> Callable[[Network, str], bool]:
    return lambda one, text: run(one, make(text))


def _contains_ip(one: Network, other: Address) -> bool:
    return other.ip in one.network


LIBRARY: dict[str, Callable[..., Any]] = {
    "url(string) URL": _url,
    "isURL(string) bool": _holds(_url),
    "URL->getScheme() string": lambda one: one.parts.scheme,
    "URL->getHost() string": _host,
    "URL->getHostname() string": _hostname,
    "URL->getPort() string": lambda one: str(one.parts.port) if one.parts.port is not None else "",
    "URL->getEscapedPath() string": lambda one: quote(unquote(one.parts.path), safe="/:@!$&'()*+,;=-._~"),
    "URL->getQuery() map(string, list(string))": lambda one: parse_qs(one.parts.query, keep_blank_values=True),
    "ip(string) IP": _ip,
    "isIP(string) bool": _holds(_ip),
    "ip.isCanonical(string) bool": lambda text: str(_ip(text).ip) == text,
    "string(IP) string": lambda one: str(one.ip),
    "IP->family() int": lambda one: one.ip.version,
    "IP->isUnspecified() bool": lambda one: one.ip.is_unspecified,
    "IP->isLoopback() bool": lambda one: one.ip.is_loopback,
    "IP->isLinkLocalMulticast() bool": lambda one: (
        one.ip in ip_network("224.0.0.0/24") if one.ip.version == 4 else one.ip.packed[:2] == b"\xff\x02"
    ),
    "IP->isLinkLocalUnicast() bool": lambda one: one.ip.is_link_local,
    "IP->isGlobalUnicast() bool": lambda one: (
        not (one.ip.is_unspecified or one.ip.is_loopback or one.ip.is_multicast or one.ip.is_link_local)
        and str(one.ip) != "255.255.255.255"
    ),
    "cidr(string) CIDR": _cidr,
    "isCIDR(string) bool": _holds(_cidr),
    "string(CIDR) string": lambda one: f"{one.address}/{one.network.prefixlen}",
    "CIDR->ip() IP": lambda one: Address(one.address),
    "CIDR->masked() CIDR": lambda one: Network(one.network, one.network.network_address),
    "CIDR->prefixLength() int": lambda one: one.network.prefixlen,
    "CIDR->containsIP(IP) bool": _contains_ip,
    "CIDR->containsIP(string) bool": _text_too(_ip, _contains_ip),
    "CIDR->containsCIDR(CIDR) bool": _contains_cidr,
    "CIDR->containsCIDR(string) bool": _text_too(_cidr, _contains_cidr),
}
