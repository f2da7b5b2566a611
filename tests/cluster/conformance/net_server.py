"""What the network tests' server pods run: HTTP (and TLS) and UDP servers that tell who answers and who asks.

The file is put into a config map, and Python of the distribution runs it: nothing but the standard library. The one
argument is JSON: {"http": {"80": TEXT}, "tls": {"443": TEXT}, "udp": [80]}; a port with a text answers with it, one
with null as the path says (see `Handler.answer`). With "stay": true, SIGTERM does not end it.
"""

from __future__ import annotations

import concurrent.futures
import http.server
import json
import pathlib
import signal
import socket
import ssl
import sys
import threading
import time
import urllib.parse

UNREADY = pathlib.Path("/tmp/unready")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    texts: dict[int, str | None] = {}

    def answer(self) -> None:
        """Says what the port or path is for: the pod's name, the client's address, the request itself, a redirect."""
        size = int(self.headers.get("Content-Length") or 0)
        received = self._chunks() if self.headers.get("Transfer-Encoding") == "chunked" else self.rfile.read(size)
        path, _, query = self.path.partition("?")
        text = self.texts.get(self.server.server_address[1])
        if text is not None:
            return self.reply(text, "text/html; charset=utf-8" if text.startswith("<") else "text/plain")
        if path == "/clientip":
            return self.reply(self.client_address[0])
        if path == "/ready":
            return self.reply("", status=503 if UNREADY.exists() else 200)
        if path == "/redirect":
            return self.reply("", status=302, location=urllib.parse.parse_qs(query)["to"][0])
        if path == "/probe":
            return self.reply(json.dumps(probe(urllib.parse.parse_qs(query)["to"])), "application/json")
        if path == "/slow":
            time.sleep(float(query))
        if path in ("/", "/hostname", "/slow"):
            return self.reply(socket.gethostname())
        told = {"method": self.command, "path": self.path, "headers": dict(self.headers), "body": received.decode()}
        return self.reply(json.dumps(told), "application/json")

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer

    def reply(self, text: str, kind: str = "text/plain", status: int = 200, location: str = "") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (("Location", location), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")):
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128


def probe(targets: list[str]) -> dict[str, str]:
    """Tells who answers at each target (`tcp:ADDRESS:PORT` or udp), all asked at once, or how that fails."""
    with concurrent.futures.ThreadPoolExecutor(len(targets)) as pool:
        return dict(zip(targets, pool.map(_probe, targets), strict=True))


def _probe(target: str) -> str:
    protocol, address, port = target.split(":")
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as client:
        client.settimeout(0.5)
        try:
            client.connect((address, int(port)))
            client.sendall(b"GET /hostname HTTP/1.0\r\n\r\n" if protocol == "tcp" else b"hostname")
            answer = client.recv(4096)
            while protocol == "tcp" and (more := client.recv(4096)):
                answer += more
        except OSError as error:
            return type(error).__name__
    return answer.rpartition(b"\r\n")[2].decode()


def serve_udp(port: int) -> None:
    """Answers `clientip` with the client's address and port, `echo …` with that, anything else with the pod's name."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("", port))
    while True:
        asked, peer = server.recvfrom(2048)
        answers = {b"clientip": f"{peer[0]}:{peer[1]}".encode()}
        told = asked[5:] if asked.startswith(b"echo ") else answers.get(asked.strip(), socket.gethostname().encode())
        server.sendto(told, peer)


def main() -> None:
    wanted = json.loads(sys.argv[1])
    signal.signal(signal.SIGTERM, signal.SIG_IGN if wanted.get("stay") else lambda *_: sys.exit(0))
    for kind in ("http", "tls"):
        for port, text in wanted.get(kind, {}).items():
            Handler.texts[int(port)] = text
            server = Server(("", int(port)), Handler)
            if kind == "tls":
                context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
                context.load_cert_chain("/program/tls.crt", "/program/tls.key")
                server.socket = context.wrap_socket(server.socket, server_side=True)
            threading.Thread(target=server.serve_forever, daemon=True).start()
    for port in wanted.get("udp", ()):
        threading.Thread(target=serve_udp, args=(port,), daemon=True).start()
    threading.Event().wait()


if __name__ == "__main__":
    main()
