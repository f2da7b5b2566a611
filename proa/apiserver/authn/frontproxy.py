"""Identities that a front proxy vouches for in headers, as another API server's aggregator does.

Follows upstream's request-header authenticator (`--requestheader-*`): believed only with a client certificate of the
front proxies' own authority that bears one of the allowed names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from proa.client.interface import UserInfo
from proa.wire.http import Request, utf8


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontProxy:
    """`authorities` are PEM certificates, `names` the common names that front proxies may have (empty: any)."""

    authorities: Sequence[bytes] = ()
    names: Sequence[str] = ()
    user_headers: Sequence[str] = ("X-Remote-User",)
    uid_headers: Sequence[str] = ("X-Remote-Uid",)
    group_headers: Sequence[str] = ("X-Remote-Group",)
    extra_prefixes: Sequence[str] = ("X-Remote-Extra-",)

    def user(self, request: Request, common_name: str) -> UserInfo | None:
        """Returns whom the headers name, None if nobody or if this proxy may not say so."""
        if self.names and common_name not in self.names:
            return None
        name = self._first(request, self.user_headers)
        if not name:
            return None
        groups = [utf8(value) for header in self.group_headers for value in request.header_values(header.lower())]
        return UserInfo(name, tuple(groups), self._first(request, self.uid_headers), self._extra(request))

    @staticmethod
    def _first(request: Request, headers: Sequence[str]) -> str:
        values = (value for header in headers for value in request.header_values(header.lower())[:1])
        return next((utf8(value) for value in values if value), "")

    def _extra(self, request: Request) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for prefix in self.extra_prefixes:
            for key in request.headers:
                if key.startswith(prefix.lower()):
                    values = tuple(utf8(value) for value in request.header_values(key))
                    found[unquote(key[len(prefix) :]).lower()] = values
        return found
