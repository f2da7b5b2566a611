"""Service-account tokens: signed, verified, and good only while what they are bound to lives.

Follows upstream's bound service-account tokens (TokenRequest): JSON web tokens with audiences and expiry, with private
claims under `kubernetes.io` for namespace, account, and the pod, secret or node that a token is bound to.
"""

from __future__ import annotations

import base64
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from proa.apiserver.authn.certificates import CREDENTIAL_ID
from proa.apiserver.live import Live
from proa.client.interface import UserInfo
from proa.client.resources import NODES, PODS, SECRETS, SERVICEACCOUNTS
from proa.meta.errors import StatusError, unauthorized
from proa.meta.gvk import GVR
from proa.meta.objects import Obj, metadata, uid_of
from proa.util.clock import Clock, parse_rfc3339

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

_KEPT_MAX = 8192
_DELETION_LEEWAY_SECONDS = 60
_PREFIX = "authentication.kubernetes.io/"
# What a token may be bound to: claim, resource, whether it is namespaced
_BOUND: dict[str, tuple[GVR, bool]] = {"pod": (PODS, True), "secret": (SECRETS, True), "node": (NODES, False)}


# What every token of ours holds. PyJWT checks the types of some, not of all.
_CLAIMS: dict[str, Any] = {"exp": int, "nbf": int, "sub": str, "aud": str | list, "kubernetes.io": dict}


class RevokedToken(StatusError):
    """401 for a good token whose account, pod, secret or node is gone."""

    def __init__(self) -> None:
        super().__init__(401, "Unauthorized", "Unauthorized")


class SigningKeys:
    """The keys of one issuer: `private` signs (PEM; empty: a new key for this process), all `public` ones verify (PEM,
    the private key's own included)."""

    def __init__(self, issuer: str, private: bytes, public: Sequence[bytes] = ()) -> None:
        self.issuer = issuer
        self._private_pem = private
        self._public_pems = public

    @cached_property
    def _private(self) -> PrivateKeyTypes:
        if not self._private_pem:
            from cryptography.hazmat.primitives.asymmetric import ec

            return ec.generate_private_key(ec.SECP256R1())
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        return load_pem_private_key(self._private_pem, None)

    @cached_property
    def _public(self) -> dict[str, PublicKeyTypes]:
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        keys: list[PublicKeyTypes] = [self._private.public_key()]
        keys += [load_pem_public_key(pem) for pem in self._public_pems]
        return {key_id(key): key for key in keys}

    def sign(self, claims: Obj) -> str:
        """Returns the signed token."""
        import jwt

        identifier = key_id(self._private.public_key())
        token: str = jwt.encode(claims, self._private, _algorithm(self._private), {"kid": identifier})  # type: ignore[arg-type]
        return token

    def verify(self, token: str) -> Obj:
        """Returns the claims of a token with a good signature and times; raises ValueError for any other."""
        import jwt

        try:
            header = jwt.get_unverified_header(token)
            key = self._public.get(header.get("kid", ""))
            if key is None:
                raise ValueError("signed by an unknown key")
            options: Any = {"verify_aud": False, "require": ["exp", "iss", "sub"]}
            claims: Obj = jwt.decode(token, key, [_algorithm(key)], options, issuer=self.issuer)  # type: ignore[arg-type]
        except (jwt.PyJWTError, TypeError) as error:
            raise ValueError(str(error)) from error
        if not all(isinstance(claims.get(name), kind) for name, kind in _CLAIMS.items()):
            raise ValueError("a claim is not of its type")
        return claims

    def jwks(self) -> Obj:
        """Returns the public keys as the document at /openid/v1/jwks."""
        return {"keys": [_jwk(identifier, key) for identifier, key in self._public.items()]}

    def configuration(self, jwks_uri: str) -> Obj:
        """Returns the document at /.well-known/openid-configuration."""
        return {
            "issuer": self.issuer,
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": sorted({_algorithm(key) for key in self._public.values()}),
        }


def key_id(key: PublicKeyTypes) -> str:
    """Returns upstream's name for a key: the hash of its DER form."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return _base64url(hashlib.sha256(der).digest())


def _algorithm(key: Any) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec

    if isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        return {256: "ES256", 384: "ES384", 521: "ES512"}[key.curve.key_size]
    return "RS256"


def _jwk(identifier: str, key: PublicKeyTypes) -> Obj:
    from jwt.algorithms import ECAlgorithm, RSAAlgorithm

    convert: Any = RSAAlgorithm.to_jwk if _algorithm(key) == "RS256" else ECAlgorithm.to_jwk
    numbers = convert(key, as_dict=True)
    shown = {name: numbers[name] for name in ("kty", "n", "e", "crv", "x", "y") if name in numbers}
    return {"use": "sig", "kty": shown.pop("kty"), "kid": identifier, "alg": _algorithm(key), **shown}


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class ServiceAccountTokens:
    """Issues tokens and finds out whom they stand for. `audiences` are the API server's own."""

    def __init__(self, keys: SigningKeys, live: Live, clock: Clock, audiences: Sequence[str] = ()) -> None:
        self.keys = keys
        self.audiences = tuple(audiences) or (keys.issuer,)
        self._live = live
        self._clock = clock
        self._kept: OrderedDict[str, Obj] = OrderedDict()

    def issue(
        self, account: Obj, audiences: Sequence[str], seconds: int, bound: dict[str, Obj]
    ) -> tuple[str, datetime]:
        """Returns a token for a service account and when it expires.

        `bound` maps "pod", "secret" or "node" to the object that the token shall not outlive (a pod's node is told as
        well, without binding to it).
        """
        meta = metadata(account)
        now = int(self._clock.now().timestamp())
        private: Obj = {"namespace": meta["namespace"]}
        for kind in ("node", "pod", "secret"):
            if kind in bound:
                private[kind] = {"name": metadata(bound[kind])["name"], "uid": uid_of(bound[kind])}
        private["serviceaccount"] = {"name": meta["name"], "uid": meta["uid"]}
        claims = {
            "aud": list(audiences),
            "exp": now + seconds,
            "iat": now,
            "iss": self.keys.issuer,
            "jti": str(uuid4()),
            "kubernetes.io": private,
            "nbf": now,
            "sub": f"system:serviceaccount:{meta['namespace']}:{meta['name']}",
        }
        return self.keys.sign(claims), datetime.fromtimestamp(now + seconds, UTC)

    def is_ours(self, token: str) -> bool:
        """Whether a bearer token has the form of a JSON web token."""
        return token.count(".") == 2

    def authenticate(self, token: str, audiences: Sequence[str] | None = None) -> tuple[UserInfo, list[str]]:
        """Returns whom a token stands for and which of the wanted audiences it is for; raises the 401 StatusError."""
        claims = self._claims(token)
        wanted = self.audiences if audiences is None else audiences
        stated = claims.get("aud") or []
        shared = [one for one in wanted if one in ([stated] if isinstance(stated, str) else stated)]
        if not shared:
            raise unauthorized()
        return self._user(claims), shared

    def _claims(self, token: str) -> Obj:
        digest = hashlib.sha256(token.encode()).hexdigest()
        claims = self._kept.get(digest)
        if claims is None:
            try:
                claims = self.keys.verify(token)
            except ValueError:
                raise unauthorized() from None
            self._kept[digest] = claims
            if len(self._kept) > _KEPT_MAX:
                self._kept.popitem(last=False)
        now = self._clock.now().timestamp()
        if not (claims.get("nbf") or 0) - 1 <= now < claims["exp"]:
            raise unauthorized()
        return claims

    def _user(self, claims: Obj) -> UserInfo:
        private = claims.get("kubernetes.io") or {}
        namespace, account = private.get("namespace", ""), private.get("serviceaccount") or {}
        name = account.get("name", "")
        user = f"system:serviceaccount:{namespace}:{name}"
        if claims["sub"] != user:
            raise unauthorized()
        self._check(SERVICEACCOUNTS, account, namespace, 0)
        extra: dict[str, tuple[str, ...]] = {}
        if claims.get("jti"):
            extra[CREDENTIAL_ID] = (f"JTI={claims['jti']}",)
        for kind, (resource, namespaced) in _BOUND.items():
            if reference := private.get(kind):
                binds = kind != "node" or "pod" not in private
                if binds:
                    self._check(resource, reference, namespace if namespaced else "", _DELETION_LEEWAY_SECONDS)
                if kind != "secret":
                    extra[f"{_PREFIX}{kind}-name"] = (reference["name"],)
                    extra[f"{_PREFIX}{kind}-uid"] = (reference["uid"],)
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
        return UserInfo(user, groups, account.get("uid", ""), extra)

    def _check(self, resource: GVR, reference: Obj, namespace: str, leeway_seconds: int) -> None:
        found = self._live.get(resource, reference.get("name", ""), namespace)
        if found is None or uid_of(found) != reference.get("uid"):
            raise RevokedToken
        deleted = metadata(found).get("deletionTimestamp")
        if deleted and (self._clock.now() - parse_rfc3339(deleted)).total_seconds() > leeway_seconds:
            raise RevokedToken
