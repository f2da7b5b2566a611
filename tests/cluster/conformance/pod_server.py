"""What pods of the conformance tests run: a server that probes, hooks and other pods talk to. Standard library only.

`python3 pod_server.py [--healthy SECONDS] [--grpc PORT] [--udp PORT]`. HTTP on port 8080: `/healthz` fails once SECONDS
have passed, `/missing` always, `/hostname` answers with the host's name, `POST /write` takes a text that `/read` gives
back, all else succeeds. UDP answers "hostname" with the name. gRPC answers the health service's Check with SERVING,
with frames made by hand. Every connection and request is printed.
"""

import argparse
import http.server
import socket
import struct
import threading
import time

PORT = 8080
STARTED = time.monotonic()
WRITTEN: list[str] = []


class Handler(http.server.BaseHTTPRequestHandler):
    healthy_seconds = 0.0

    def do_GET(self) -> None:
        if self.path == "/healthz" and 0 < self.healthy_seconds < time.monotonic() - STARTED:
            return self.reply(500, "too old")
        if self.path == "/missing":
            return self.reply(404, "no such page")
        if self.path == "/hostname":
            return self.reply(200, socket.gethostname())
        return self.reply(200, "\n".join(WRITTEN) if self.path == "/read" else "ok")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0)).decode()
        if self.path == "/write":
            WRITTEN.append(body)
        self.reply(200, "ok")

    def reply(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *arguments: object) -> None:
        print("http", self.command, self.path, self.headers.get("User-Agent", ""), flush=True)


class Server(http.server.ThreadingHTTPServer):
    def verify_request(self, request: object, client_address: object) -> bool:
        print("connected", flush=True)
        return True


def serve_udp(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("", port))
        while True:
            asked, sender = server.recvfrom(1024)
            print("udp", asked, flush=True)
            if asked.strip().lower() == b"hostname":
                server.sendto(socket.gethostname().encode(), sender)


def serve_grpc(port: int) -> None:
    with socket.create_server(("", port)) as server:
        while True:
            connection, _ = server.accept()
            threading.Thread(target=check, args=(connection,), daemon=True).start()


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """An HTTP/2 frame."""
    return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + payload


def header(name: bytes, value: bytes) -> bytes:
    """A header as HPACK's plain literal."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def check(connection: socket.socket) -> None:
    data, headers, settings, ping, end = 0, 1, 4, 6, 1
    with connection, connection.makefile("rb") as source:
        source.read(24)  # the client's preface
        connection.sendall(frame(settings, 0, 0, b""))
        while len(head := source.read(9)) == 9:
            length, kind, flags, stream = int.from_bytes(head[:3], "big"), head[3], head[4], head[5:9]
            payload = source.read(length)
            if kind in (settings, ping) and not flags & 1:
                connection.sendall(frame(kind, 1, 0, payload if kind == ping else b""))
            if kind == data and flags & end:
                print("grpc", payload[5:], flush=True)
                number = int.from_bytes(stream, "big")
                serving = b"\x08\x01"
                answer = frame(headers, 4, number, b"\x88" + header(b"content-type", b"application/grpc"))
                answer += frame(data, 0, number, struct.pack("!BI", 0, len(serving)) + serving)
                answer += frame(headers, 4 | end, number, header(b"grpc-status", b"0"))
                connection.sendall(answer)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--healthy", type=float, default=0.0)
    parser.add_argument("--grpc", type=int, default=0)
    parser.add_argument("--udp", type=int, default=0)
    options = parser.parse_args()
    Handler.healthy_seconds = options.healthy
    for serve, port in ((serve_udp, options.udp), (serve_grpc, options.grpc)):
        if port:
            threading.Thread(target=serve, args=(port,), daemon=True).start()
    print("serving", flush=True)
    Server(("", PORT), Handler).serve_forever()


if __name__ == "__main__":
    main()
