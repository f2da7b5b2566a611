"""Authentication as a whole: front proxy headers, client certificate, bearer token, else anonymous.

Impersonation comes after it (see `impersonation`), since that needs authorization.
"""

from __future__ import annotations

from dataclasses import replace

from proa.apiserver.authn.bootstrap import TOKEN, BootstrapTokens
from proa.apiserver.authn.certificates import ClientCertificates
from proa.apiserver.authn.frontproxy import FrontProxy
from proa.apiserver.authn.impersonation import AUTHENTICATED
from proa.apiserver.authn.tokens import ServiceAccountTokens
from proa.apiserver.authz.chain import ANONYMOUS, UNAUTHENTICATED
from proa.client.interface import UserInfo
from proa.meta.errors import unauthorized
from proa.util.clock import Clock
from proa.wire.http import Request

_ANONYMOUS = UserInfo(ANONYMOUS, (UNAUTHENTICATED,))
WEBSOCKET_TOKEN = "base64url.bearer.authorization.k8s.io."


class Authentication:
    """The `Authenticator` of the API server."""

    def __init__(
        self,
        clock: Clock,
        certificates: ClientCertificates,
        tokens: ServiceAccountTokens,
        bootstrap: BootstrapTokens | None = None,
        proxy: FrontProxy | None = None,
    ) -> None:
        self.tokens = tokens
        self._clock = clock
        self._certificates = certificates
        self._bootstrap = bootstrap
        self._proxy = proxy or FrontProxy()

    async def authenticate(self, request: Request) -> UserInfo:
        if request.peer_certificate is not None:
            identity = self._certificates.identify(request.peer_certificate, self._clock.now())
            if identity.user is not None:
                return identity.user
            user = self._proxy.user(request, identity.proxy)
            if user is not None:
                return _authenticated(user)
            if _bearer(request) is None:
                raise unauthorized()  # a front proxy that speaks for nobody is nobody itself
        token = _bearer(request)
        if token is None:
            return _ANONYMOUS
        return self.authenticate_token(token)

    def authenticate_token(self, token: str) -> UserInfo:
        """Returns whom a bearer token stands for; raises the 401 StatusError."""
        if self._bootstrap is not None and TOKEN.fullmatch(token):
            return _authenticated(self._bootstrap.authenticate(token))
        return _authenticated(self.tokens.authenticate(token)[0])


def _bearer(request: Request) -> str | None:
    """Returns the bearer token, None if no identity is claimed; raises the 401 for a claim we don't understand."""
    claim = request.header("authorization")
    if claim:
        scheme, _, token = claim.strip().partition(" ")
        if scheme.lower() == "bearer":
            return token.strip() or None
        return None  # upstream passes over schemes that it doesn't know
    for protocol in request.header("sec-websocket-protocol").split(","):
        if protocol.strip().startswith(WEBSOCKET_TOKEN):
            return _decoded(protocol.strip().removeprefix(WEBSOCKET_TOKEN))
    return None


def _decoded(text: str) -> str:
    import base64
    import binascii

    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise unauthorized() from None


def _authenticated(user: UserInfo) -> UserInfo:
    if AUTHENTICATED in user.groups:
        return user
    return replace(user, groups=(*user.groups, AUTHENTICATED))
