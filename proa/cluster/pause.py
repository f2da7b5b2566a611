"""The program that holds a sandbox open: a complete static executable of some 200 bytes, made here.

It ignores SIGCHLD, so that the kernel reaps orphans when it is process 1 of a shared process namespace, and then waits
for ever; the runtime ends it with SIGKILL, as upstream's pause image. Being that small it needs no package, no
registry and no memory worth counting.
"""

from __future__ import annotations

import platform
import struct

_BASE = 0x400000
_HEADERS = 64 + 56  # one ELF header, one program header
_SIGCHLD = 17
# struct sigaction as the kernel takes it: SIG_IGN, flags, restorer, mask; 8 bytes each.
_IGNORE = struct.pack("<4Q", 1, 0, 0, 0)


def _x86_64() -> bytes:
    code = b"".join(
        [
            bytes.fromhex("488d3520000000"),  # lea  rsi, [rip + 32]   the sigaction behind the code
            b"\xbf" + struct.pack("<I", _SIGCHLD),  # mov  edi, SIGCHLD
            bytes.fromhex("31d2"),  # xor  edx, edx
            bytes.fromhex("41ba08000000"),  # mov  r10d, 8             size of the mask
            bytes.fromhex("b80d000000"),  # mov  eax, 13            rt_sigaction
            bytes.fromhex("0f05"),  # syscall
            bytes.fromhex("b822000000"),  # mov  eax, 34            pause
            bytes.fromhex("0f05"),  # syscall
            bytes.fromhex("ebf7"),  # jmp  back to mov eax, 34
        ]
    )
    return code.ljust(39, b"\x90") + _IGNORE


def _aarch64() -> bytes:
    def move(register: int, value: int) -> int:
        return 0xD2800000 | value << 5 | register

    supervisor_call, branch_back_6 = 0xD4000001, 0x14000000 | (-6 & 0x3FFFFFF)
    setup = [move(0, _SIGCHLD), move(2, 0), move(3, 8), move(8, 134), supervisor_call]  # rt_sigaction
    wait = [move(0, 0), move(1, 0), move(2, 0), move(3, 0), move(8, 73), supervisor_call, branch_back_6]  # ppoll
    distance = 4 * (1 + len(setup) + len(wait))
    address_of_sigaction = 0x10000001 | (distance >> 2) << 5  # adr x1, the sigaction behind the code
    return struct.pack(f"<{1 + len(setup) + len(wait)}I", address_of_sigaction, *setup, *wait) + _IGNORE


_MACHINES = {"x86_64": (62, _x86_64), "aarch64": (183, _aarch64)}


def executable(machine: str = "") -> bytes:
    """Returns the program for a machine (`x86_64` or `aarch64`; this one by default); raises KeyError for others."""
    number, assemble = _MACHINES[machine or platform.machine()]
    code = assemble()
    size = _HEADERS + len(code)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01",
        2,  # executable
        number,
        1,
        _BASE + _HEADERS,  # entry
        64,  # program headers follow
        0,
        0,
        64,
        56,
        1,
        64,
        0,
        0,
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)  # load, read and execute
    return header + segment + code
