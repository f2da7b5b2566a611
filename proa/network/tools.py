"""Runs the tools that change the kernel's network: ip, nft."""

from __future__ import annotations

import asyncio


class CommandError(Exception):
    """A tool refused; the text is its complaint."""


async def run(*command: str, text: str = "", check: bool = True) -> str:
    """Runs a tool and returns its output; raises CommandError if it fails or is not installed."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE if text else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError as error:
        raise CommandError(f"{command[0]} is not installed") from error
    output, complaint = await process.communicate(text.encode() if text else None)
    if process.returncode and check:
        raise CommandError(f"{' '.join(command)}: {complaint.decode(errors='replace').strip()}")
    return output.decode()
