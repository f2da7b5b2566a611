"""Carries transactions out: all lines of one go to `nft -f -`, and hold together or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence


class NftError(Exception):
    """nft refused a transaction; the text is its first complaint."""


async def apply(lines: Sequence[str]) -> None:
    """Runs one transaction in this process' network namespace; raises NftError."""
    if not lines:
        return
    try:
        process = await asyncio.create_subprocess_exec(
            "nft", "-f", "-", stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except FileNotFoundError as error:
        raise NftError("nft is not installed (apt-get install nftables)") from error
    _, complaint = await process.communicate(("\n".join(lines) + "\n").encode())
    if process.returncode:
        raise NftError(complaint.decode(errors="replace").strip().partition("\n")[0] or f"code {process.returncode}")


async def forget_connections(address: str, port: int, endpoint: str) -> None:
    """Drops UDP flows of a service address and port that lead to an endpoint (all of them if it is empty).

    UDP has no end of connection, so a client that keeps its port would go on talking to an endpoint that is gone.
    """
    command = ["conntrack", "-D", "-p", "udp", "--orig-dst", address, "--orig-port-dst", str(port)]
    if ":" in address:
        command += ["-f", "ipv6"]
    if endpoint:
        command += ["--reply-src", endpoint]
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
    except FileNotFoundError:
        return
    await process.wait()  # it fails when there is nothing to delete
