"""A small network of namespaces: a node with two pods behind it, and somebody outside. Packets are real."""

from __future__ import annotations

import subprocess
import sys

ANSWER = """
import socket, sys
server = socket.socket(); server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind((sys.argv[1], int(sys.argv[2]))); server.listen(64); print("ready", flush=True)
while True:
    peer, address = server.accept(); peer.sendall(f"{sys.argv[1]} {address[0]}".encode()); peer.close()
"""
ASK = """
import socket, sys
for _ in range(int(sys.argv[3])):
    try:
        with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=float(sys.argv[4])) as s:
            print(s.recv(100).decode())
    except OSError as error:
        print(type(error).__name__)
"""


class Lab:
    """A router namespace (the node) with two pods and one outsider."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.servers: list[subprocess.Popen[str]] = []
        self.places = {"node": f"{name}-n", "a": f"{name}-a", "b": f"{name}-b", "out": f"{name}-o"}
        addresses = {"a": ("10.244.0.1/24", "10.244.0.5/24"), "b": ("10.244.1.1/24", "10.244.1.5/24")}
        addresses["out"] = ("10.213.0.2/24", "10.213.0.1/24")
        lines = [f"netns add {place}" for place in self.places.values()]
        node = self.places["node"]
        lines += [
            f"link add v{one} netns {node} type veth peer name eth0 netns {self.places[one]}" for one in addresses
        ]
        self.ip("", lines)
        for one, (gateway, address) in addresses.items():
            self.ip("node", [f"addr add {gateway} dev v{one}", f"link set v{one} up"])
            route = f"route add default via {gateway.partition('/')[0]}"
            self.ip(one, ["link set lo up", f"addr add {address} dev eth0", "link set eth0 up", route])
        self.ip("node", ["link set lo up", "route add 10.96.0.0/16 dev vout src 10.213.0.2"])
        self.run("node", "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")

    def ip(self, place: str, lines: list[str]) -> None:
        within = ["-n", self.places[place]] if place else []
        subprocess.run(["ip", *within, "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True)

    def run(self, place: str, *command: str, text: str = "") -> str:
        inside = ["nsenter", f"--net=/run/netns/{self.places[place]}", "--", *command]
        done = subprocess.run(inside, input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def serve(self, place: str, address: str, port: int) -> None:
        inside = ["nsenter", f"--net=/run/netns/{self.places[place]}", "--", sys.executable, "-c", ANSWER]
        process = subprocess.Popen([*inside, address, str(port)], stdout=subprocess.PIPE, text=True)
        assert process.stdout and process.stdout.readline() == "ready\n"
        self.servers.append(process)

    def ask(self, place: str, address: str, port: int, times: int = 1, seconds: float = 2.0) -> list[str]:
        command = [sys.executable, "-c", ASK, address, str(port), str(times), str(seconds)]
        return self.run(place, *command).splitlines()

    def apply(self, lines: list[str]) -> None:
        self.run("node", "nft", "-f", "-", text="\n".join(lines) + "\n")

    def close(self) -> None:
        for process in self.servers:
            process.kill()
            process.wait()
        for place in self.places.values():
            subprocess.run(["ip", "netns", "delete", place], check=False)
