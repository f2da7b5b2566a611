"""TLS contexts: version 1.2 or later with AEAD suites only; client certificates verified if given."""

from __future__ import annotations

import ssl
from pathlib import Path

_AEAD_SUITES = "ECDHE+AESGCM:ECDHE+CHACHA20"


def _restrict(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_AEAD_SUITES)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    return context


def server_context(
    certificate: str | Path, key: str | Path, client_ca: str | Path | None = None, *, client_required: bool = False
) -> ssl.SSLContext:
    """Returns a server's context from PEM files.

    With `client_ca`, a client certificate is asked for and must chain to that CA if one is given (a connection with a
    bad one fails in the handshake); without one the request is simply not identified by it. Loading new files into
    the same context (`load_cert_chain`) renews the certificate for later connections.
    """
    context = _restrict(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["http/1.1"])
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED if client_required else ssl.CERT_OPTIONAL
    return context


def client_context(
    ca: str | Path | bytes | None,
    certificate: str | Path | None = None,
    key: str | Path | None = None,
    *,
    verify: bool = True,
) -> ssl.SSLContext:
    """Returns a client's context: `ca` is a PEM file or PEM bytes; None means the system's roots."""
    context = _restrict(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca is None:
        context.load_default_certs()
    elif isinstance(ca, bytes):
        context.load_verify_locations(cadata=ca.decode())
    else:
        context.load_verify_locations(ca)
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["http/1.1"])
    return context
