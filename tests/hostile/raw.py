"""A client that sends exactly the bytes it is told to, over TLS, and judges answers as every client must be able to."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ANSWER_SECONDS_MAX = 30.0
http.client._MAXHEADERS = 1000  # type: ignore[attr-defined]  # a hundred warnings are allowed
JSON = "application/json"
MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Reply:
    """One answer; `headers` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return str(self.json["message"])


@dataclass(frozen=True)
class Endpoint:
    """Where a server is, and what it takes to speak to it as its administrator."""

    port: int
    authority: str
    certificate: Path | None = None
    key: Path | None = None

    @classmethod
    def of(cls, kubeconfig: Path, folder: Path) -> Endpoint:
        """Reads a kubeconfig in JSON or YAML with embedded credentials; writes those into `folder`."""
        from proa.meta.codec import yaml

        config = yaml.decode(kubeconfig.read_bytes())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        certificate, key = folder / "client.crt", folder / "client.key"
        certificate.write_bytes(base64.b64decode(user["client-certificate-data"]))
        key.write_bytes(base64.b64decode(user["client-key-data"]))
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        return cls(int(cluster["server"].rpartition(":")[2]), authority, certificate, key)

    def anonymous(self) -> Endpoint:
        return Endpoint(self.port, self.authority)


class Raw:
    """One connection at a time, made anew whenever the server has closed the last one."""

    def __init__(self, endpoint: Endpoint, headers: Mapping[str, str] | None = None) -> None:
        self.endpoint = endpoint
        self.headers = dict(headers or {})
        self._context = ssl.create_default_context(cadata=endpoint.authority)
        if endpoint.certificate is not None:
            self._context.load_cert_chain(endpoint.certificate, endpoint.key)
        self._socket: ssl.SSLSocket | None = None

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def connect(self) -> ssl.SSLSocket:
        if self._socket is None:
            plain = socket.create_connection(("127.0.0.1", self.endpoint.port), ANSWER_SECONDS_MAX)
            self._socket = self._context.wrap_socket(plain, server_hostname="127.0.0.1")
        return self._socket

    def send(self, data: bytes, method: str = "GET") -> Reply:
        """Sends bytes as they are and reads one answer."""
        connection = self.connect()
        connection.sendall(data)
        return self.receive(method)

    def receive(self, method: str = "GET") -> Reply:
        answer = http.client.HTTPResponse(self.connect(), method=method)
        answer.begin()
        body = answer.read()
        if answer.will_close:
            self.close()
        fields: dict[str, str] = {}
        for name, value in answer.getheaders():
            fields[name.lower()] = f"{fields[name.lower()]}, {value}" if name.lower() in fields else value
        return Reply(answer.status, fields, body)

    def ask(
        self,
        method: str,
        target: str,
        body: Any = None,
        content_type: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Sends a request; `body` is bytes, text, or anything that JSON can show."""
        data = body if isinstance(body, bytes) else b""
        if isinstance(body, str):
            data = body.encode()
        elif body is not None and not isinstance(body, bytes):
            data = json.dumps(body).encode()
        fields = {"Host": "127.0.0.1", "Accept": JSON, **self.headers, **(headers or {})}
        if body is not None:
            fields |= {"Content-Length": str(len(data)), "Content-Type": content_type or JSON}
        head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        request = head.encode("latin-1") + b"\r\n" + data
        try:
            return self.send(request, method)
        except (ConnectionError, http.client.RemoteDisconnected, ssl.SSLError):
            if self._socket is None:
                raise
            self.close()  # the server had closed an idle connection
            return self.send(request, method)


def refused(reply: Reply, *codes: int) -> str:
    """Checks that an answer is a refusal with one of these codes (any 4xx if none is named), told as a Status that
    agrees with itself; returns its message."""
    shown = (reply.status, reply.body[:500])
    assert reply.status in codes if codes else 400 <= reply.status < 500, shown
    if reply.body == b"404 page not found\n":
        return "404 page not found"
    assert reply.headers["content-type"] == JSON, shown
    status = reply.json
    assert status["kind"] == "Status" and status["apiVersion"] == "v1" and status["status"] == "Failure", shown
    assert status["code"] == reply.status and status["message"], shown
    assert len(reply.body) < MEBIBYTE, len(reply.body)
    return str(status["message"])
