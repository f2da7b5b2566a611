"""Bootstrap tokens: short secrets with which new nodes ask for their certificates (`abcdef.0123456789abcdef`).

Follows upstream's bootstrap token authenticator: a token is a Secret of its own type in kube-system.
"""

from __future__ import annotations

import base64
import binascii
import re
from hmac import compare_digest

from proa.apiserver.live import Live
from proa.client.interface import UserInfo
from proa.client.resources import SECRETS
from proa.meta.errors import unauthorized
from proa.meta.objects import Obj, metadata
from proa.util.clock import Clock, parse_rfc3339

TOKEN = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
GROUP = "system:bootstrappers"
_TYPE = "bootstrap.kubernetes.io/token"


class BootstrapTokens:
    """Looks tokens up as they are now."""

    def __init__(self, live: Live, clock: Clock) -> None:
        self._live = live
        self._clock = clock

    def authenticate(self, token: str) -> UserInfo:
        """Returns whom a token stands for; raises the 401 StatusError."""
        match = TOKEN.fullmatch(token)
        secret = self._live.get(SECRETS, f"bootstrap-token-{match[1]}", "kube-system") if match else None
        if match is None or secret is None or secret.get("type") != _TYPE or metadata(secret).get("deletionTimestamp"):
            raise unauthorized()
        good = (
            _text(secret, "token-id") == match[1]
            and compare_digest(_text(secret, "token-secret"), match[2])
            and _text(secret, "usage-bootstrap-authentication") == "true"
            and not self._expired(_text(secret, "expiration"))
        )
        if not good:
            raise unauthorized()
        extra = [group for group in _text(secret, "auth-extra-groups").split(",") if group.startswith(f"{GROUP}:")]
        return UserInfo(f"system:bootstrap:{match[1]}", (GROUP, *extra))

    def _expired(self, expiration: str) -> bool:
        if not expiration:
            return False
        try:
            return parse_rfc3339(expiration) <= self._clock.now()
        except ValueError:
            return True


def _text(secret: Obj, key: str) -> str:
    try:
        return base64.b64decode((secret.get("data") or {}).get(key) or "").decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
