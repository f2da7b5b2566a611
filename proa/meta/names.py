"""What makes a good name: DNS labels and subdomains, label keys and values, ports, environment variables, paths.

Each function takes a text and returns a list of problems, empty if there are none, in the words of upstream's
`apimachinery/pkg/util/validation`. With `prefix` the text is a generateName: a single trailing dash is fine, since a
random suffix follows.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import ip_address, ip_network

LABEL_LENGTH_MAX = 63
SUBDOMAIN_LENGTH_MAX = 253

EMPTY = "must be non-empty"

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = f"({_QUALIFIED})?"
_LABEL_RULE = "must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric"


def too_long(length_max: int, unit: str = "characters") -> str:
    return f"must be no more than {length_max} {unit}"


def _rule(text: str, pattern: str, *examples: str) -> tuple[re.Pattern[str], str]:
    shown = " or ".join(f"'{one}', " for one in examples)
    return re.compile(pattern), f"{text} (e.g. {shown}regex used for validation is '{pattern}')"


_RULES = {
    "label": _rule(f"a lowercase RFC 1123 label {_LABEL_RULE} character", _LABEL, "my-name", "123-abc"),
    "subdomain": _rule(
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
        "and must start and end with an alphanumeric character",
        _SUBDOMAIN,
        "example.com",
    ),
    "1035": _rule(
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
        "character, and end with an alphanumeric character",
        "[a-z]([-a-z0-9]*[a-z0-9])?",
        "my-name",
        "abc-123",
    ),
    "underscored": _rule(
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', "
        "and must start and end with an alphanumeric character",
        r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*",
        "example.com",
    ),
    "wildcard": _rule(
        "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist "
        "of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
        rf"\*\.{_SUBDOMAIN}",
        "*.example.com",
    ),
    "qualified": _rule(
        "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
        "character",
        _QUALIFIED,
        "MyName",
        "my.name",
        "123-abc",
    ),
    "value": _rule(
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must "
        "start and end with an alphanumeric character",
        _VALUE,
        "MyValue",
        "my_value",
        "12345",
    ),
    "identifier": _rule(
        "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric "
        "characters or '_'",
        "[A-Za-z_][A-Za-z0-9_]*",
        "my_name",
        "MY_NAME",
        "MyName",
    ),
    "env": _rule(
        "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must "
        "not start with a digit",
        "[-._a-zA-Z][-._a-zA-Z0-9]*",
        "my.env-name",
        "MY_ENV.NAME",
        "MyEnvName1",
    ),
    "key": _rule(
        "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
        "[-._a-zA-Z0-9]+",
        "key.name",
        "KEY_NAME",
        "key-name",
    ),
    "header": _rule(
        "a valid HTTP header must consist of alphanumeric characters or '-'", "[-A-Za-z0-9]+", "X-Header-Name"
    ),
    "percent": _rule(
        "a valid percent string must be a numeric string followed by an ending '%'", "[0-9]+%", "1%", "93%"
    ),
}


def _breaks(rule: str, text: str) -> list[str]:
    pattern, problem = _RULES[rule]
    return [] if pattern.fullmatch(text) else [problem]


def _length(text: str, length_max: int, unit: str = "characters") -> list[str]:
    return [too_long(length_max, unit)] if len(text.encode()) > length_max else []


def _unprefixed(text: str, prefix: bool) -> str:
    """Returns a generateName with a letter instead of its trailing dash and what is before it."""
    if prefix and len(text) > 1 and text[-1] == "-":
        return text[:-2] + "a"
    return text


def dns1123_label(text: str, prefix: bool = False) -> list[str]:
    """A host name's part: at most 63 of a-z, 0-9 and inner dashes."""
    text = _unprefixed(text, prefix)
    problems = _length(text, LABEL_LENGTH_MAX)
    if not _RULES["label"][0].fullmatch(text):
        dotted = bool(_RULES["subdomain"][0].fullmatch(text))
        problems.append("must not contain dots" if dotted else _RULES["label"][1])
    return problems


def dns1123_subdomain(text: str, prefix: bool = False) -> list[str]:
    """Labels with dots between: at most 253 characters."""
    text = _unprefixed(text, prefix)
    return _length(text, SUBDOMAIN_LENGTH_MAX) + _breaks("subdomain", text)


def dns1035_label(text: str, prefix: bool = False) -> list[str]:
    """A DNS label that begins with a letter."""
    text = _unprefixed(text, prefix)
    return _length(text, LABEL_LENGTH_MAX) + _breaks("1035", text)


def dns1123_subdomain_underscored(text: str, prefix: bool = False) -> list[str]:
    """A subdomain whose labels may hold underscores, as a pod's DNS search path may."""
    return _length(text, SUBDOMAIN_LENGTH_MAX) + _breaks("underscored", text)


def wildcard_subdomain(text: str) -> list[str]:
    """`*.` and a subdomain."""
    return _length(text, SUBDOMAIN_LENGTH_MAX) + _breaks("wildcard", text)


def fully_qualified_name(text: str) -> list[str]:
    """A subdomain of at least three labels, such as a CSR's signer domain."""
    if not text:
        return [EMPTY]
    problems = dns1123_subdomain(text)
    if problems:
        return problems
    return [] if text.count(".") >= 2 else ["should be a domain with at least three segments separated by dots"]


def qualified_name(text: str, prefix: bool = False) -> list[str]:
    """A label or annotation key: a name of at most 63 characters after an optional subdomain and slash."""
    return list(_qualified_problems(text))


@lru_cache(maxsize=2048)  # the same few keys come with every object
def _qualified_problems(text: str) -> list[str]:
    problems: list[str] = []
    domain, slash, name = text.rpartition("/")
    if "/" in domain:
        problem = _RULES["qualified"][1]
        return [
            f"a valid label key {problem} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        ]
    if slash and not domain:
        problems.append(f"prefix part {EMPTY}")
    elif slash:
        problems += [f"prefix part {problem}" for problem in dns1123_subdomain(domain)]
    if not name:
        problems.append(f"name part {EMPTY}")
    elif len(name.encode()) > LABEL_LENGTH_MAX:
        problems.append(f"name part {too_long(LABEL_LENGTH_MAX, 'bytes')}")
    return problems + [f"name part {problem}" for problem in _breaks("qualified", name)]


def label_value(text: str, prefix: bool = False) -> list[str]:
    """Empty, or at most 63 of letters, digits and inner dashes, underscores and dots."""
    return _length(text, LABEL_LENGTH_MAX, "bytes") + _breaks("value", text)


def c_identifier(text: str, prefix: bool = False) -> list[str]:
    return _breaks("identifier", text)


def _changes_directory(text: str) -> list[str]:
    if text == ".":
        return ["must not be '.'"]
    if text == "..":
        return ["must not be '..'"]
    return ["must not start with '..'"] if text.startswith("..") else []


def env_name(text: str, prefix: bool = False) -> list[str]:
    """A name of an environment variable by the strict rule."""
    return _breaks("env", text) + _changes_directory(text)


_RELAXED_ENV = re.compile("[ -<>-~]+")


def relaxed_env_name(text: str, prefix: bool = False) -> list[str]:
    """A name of an environment variable as containers may have since 1.30: printable ASCII without `=`."""
    if not text:
        return ["environment variable name must be non-empty"]
    if _RELAXED_ENV.fullmatch(text):
        return []
    return ["a valid environment variable name must consist only of printable ASCII characters other than '='"]


def config_key(text: str, prefix: bool = False) -> list[str]:
    """A key of a config map or secret."""
    return _length(text, SUBDOMAIN_LENGTH_MAX) + _breaks("key", text) + _changes_directory(text)


def http_header_name(text: str, prefix: bool = False) -> list[str]:
    return _breaks("header", text)


def percent(text: str, prefix: bool = False) -> list[str]:
    return _breaks("percent", text)


def port_number(port: int) -> list[str]:
    return [] if 1 <= port <= 65535 else ["must be between 1 and 65535, inclusive"]


def port_name(text: str, prefix: bool = False) -> list[str]:
    """A service name as of RFC 6335: at most 15 of a-z, 0-9 and single inner dashes, with a letter."""
    problems = _length(text, 15)
    if not re.fullmatch("[-a-z0-9]+", text):
        problems.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", text):
        problems.append("must contain at least one letter (a-z)")
    if "--" in text:
        problems.append("must not contain consecutive hyphens")
    if text.startswith("-") or text.endswith("-"):
        problems.append("must not begin or end with a hyphen")
    return problems


def user_id(number: int) -> list[str]:
    """A user or group id."""
    return [] if 0 <= number <= 2**31 - 1 else [f"must be between 0 and {2**31 - 1}, inclusive"]


def path_segment(text: str, prefix: bool = False) -> list[str]:
    """A name that can stand in a URL path; the only rule for RBAC objects and custom resource kinds' like."""
    if not prefix and text in (".", ".."):
        return [f"may not be '{text}'"]
    return [f"may not contain '{bad}'" for bad in "/%" if bad in text]


def ip(text: str) -> list[str]:
    """An IPv4 or IPv6 address, without zone and without leading zeros."""
    return [] if _is_address(text) else ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]


@lru_cache(maxsize=2048)  # a node's address comes with each of its pods, and a pod's again and again
def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def cidr(text: str) -> list[str]:
    """An address range in CIDR notation; bits behind the prefix may be set."""
    try:
        if "/" not in text or "%" in text or not text.rpartition("/")[2].isdigit():
            raise ValueError(text)
        ip_network(text, strict=False)
    except ValueError:
        return ["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"]
    return []
