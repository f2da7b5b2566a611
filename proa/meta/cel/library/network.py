"""Kubernetes' functions of URLs, IP addresses and networks."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, ClassVar
from urllib.parse import quote, unquote, unquote_plus

from proa.meta.cel.syntax import CelError


@dataclass(frozen=True, slots=True)
class Url:
    """`host` has the port; `raw_path` is as it was written if it may stand so, else None."""

    cel_type: ClassVar[str] = "kubernetes.URL"
    scheme: str
    user: str
    host: str
    path: str
    raw_path: str | None
    query: str
    fragment: str


@dataclass(frozen=True, slots=True)
class Address:
    cel_type: ClassVar[str] = "net.IP"
    ip: IPv4Address | IPv6Address

    @property
    def cel_size(self) -> int:
        return len(self.ip.packed)


@dataclass(frozen=True, slots=True)
class Network:
    """`address` is the one that was written; it may have bits beyond the prefix."""

    cel_type: ClassVar[str] = "net.CIDR"
    network: IPv4Network | IPv6Network
    address: IPv4Address | IPv6Address

    @property
    def cel_size(self) -> int:
        return -(-self.network.prefixlen // 8)


_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_PATH_SAFE = "$&+,/:;=@!'()*-._~"


def parse_url(text: str) -> Url:
    """Reads what may stand in a request: an absolute URL or path, as Go's `url.ParseRequestURI`; raises CelError."""

    def bad(what: str) -> CelError:
        return CelError(f'URL parse error during conversion from string: parse "{text}": {what}')

    if any(ord(one) < 32 or ord(one) == 127 for one in text):
        raise bad("net/url: invalid control character in URL")
    if not text:
        raise bad("empty url")
    found = _SCHEME.match(text)
    scheme, rest = (found[1].lower(), text[found.end() :]) if found else ("", text)
    if not found and text.startswith(":"):
        raise bad("missing protocol scheme")
    if not rest.startswith("/") and not scheme:
        raise bad("invalid URI for request")
    if rest.startswith("//") and scheme and "#" in re.split("[/?]", rest[2:], maxsplit=1)[0]:
        raise bad('invalid character "#" in host name')
    rest, _, fragment = rest.partition("#")
    rest, _, query = rest.partition("?")
    if not rest.startswith("/"):
        return Url(scheme, "", "", "", None, query, fragment)  # opaque, such as mailto:
    user = host = ""
    if rest.startswith("//") and (scheme or not rest.startswith("///")):
        authority, slash, path = rest[2:].partition("/")
        rest = slash + path
        user, at, host = authority.rpartition("@")
        host = _host(host, bad)
        if at and not re.fullmatch(r"[A-Za-z0-9\-._:~!$&'()*+,;=%@]*", user):
            raise bad("net/url: invalid userinfo")
    wrong = _BAD_ESCAPE.search(rest)
    if wrong:
        raise bad(f'invalid URL escape "{rest[wrong.start() : wrong.start() + 3]}"')
    path = unquote(rest, errors="surrogateescape")
    return Url(scheme, user, host, path, rest, query, fragment)


def _host(text: str, bad: Callable[[str], CelError]) -> str:
    if text.startswith("["):
        end = text.rfind("]")
        if end < 0:
            raise bad("missing ']' in host")
        port = text[end + 1 :]
    else:
        colon = text.rfind(":")
        port = text[colon:] if colon >= 0 else ""
    if port and not re.fullmatch(r":[0-9]*", port):
        raise bad(f'invalid port "{port}" after host')
    wrong = re.search(r'[ "<>\\^`{|}]', text)
    if wrong:
        raise bad(f'invalid character "{wrong.group()}" in host name')
    return unquote(text)


def _hostname(one: Url) -> str:
    if one.host.startswith("["):
        return one.host[1 : one.host.rindex("]")]
    return one.host.partition(":")[0]


def _port(one: Url) -> str:
    return one.host[one.host.rfind("]") + 1 :].partition(":")[2]


def _escaped_path(one: Url) -> str:
    """Returns the path as it was written if every byte may stand so, else escaped anew."""
    raw = one.raw_path or ""
    if re.fullmatch(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/\[\]]|%[0-9A-Fa-f]{2})*", raw):
        return raw
    return "*" if one.path == "*" else quote(one.path, safe="$&+,/:;=@-._~", errors="surrogateescape")


def _query(one: Url) -> dict[str, list[str]]:
    made: dict[str, list[str]] = {}
    for part in one.query.split("&"):
        if not part or ";" in part or _BAD_ESCAPE.search(part):
            continue
        key, _, value = part.partition("=")
        made.setdefault(unquote_plus(key), []).append(unquote_plus(value))
    return made


def _ip(text: str) -> Address:
    try:
        found = ip_address(text)
    except ValueError:
        found = None
    if found is None:
        said = f'ParseAddr("{text}"): unable to parse IP'
        raise CelError(f'IP Address "{text}" parse error during conversion from string: {said}')
    if "%" in text:
        raise CelError(f'IP address "{text}" with zone value is not allowed')
    if isinstance(found, IPv6Address) and found.ipv4_mapped:
        raise CelError(f'IPv4-mapped IPv6 address "{text}" is not allowed')
    return Address(found)


def _cidr(text: str) -> Network:
    said = "network address parse error during conversion from string"
    address, slash, bits = text.rpartition("/")
    wrong = f'{said}: {said}: netip.ParsePrefix("{text}")'
    if not slash:
        raise CelError(f"{wrong}: no '/'")
    try:
        written = ip_address(address)
    except ValueError:
        raise CelError(f'{wrong}: ParseAddr("{address}"): unable to parse IP') from None
    if "%" in address:
        raise CelError(f"{wrong}: IPv6 zones cannot be present in a prefix")
    if not bits.isascii() or not bits.isdigit() or (len(bits) > 1 and bits[0] == "0"):
        raise CelError(f'{wrong}: bad bits after slash: "{bits}"')
    if int(bits) > written.max_prefixlen:
        raise CelError(f"{wrong}: prefix length out of range")
    if isinstance(written, IPv6Address) and written.ipv4_mapped:
        raise CelError(f'{said}: IPv4-mapped IPv6 address "{text}" is not allowed')
    return Network(ip_network(text, strict=False), written)


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
    "url(string) URL": parse_url,
    "isURL(string) bool": _holds(parse_url),
    "URL->getScheme() string": lambda one: one.scheme,
    "URL->getHost() string": lambda one: one.host,
    "URL->getHostname() string": _hostname,
    "URL->getPort() string": _port,
    "URL->getEscapedPath() string": _escaped_path,
    "URL->getQuery() map(string, list(string))": _query,
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
