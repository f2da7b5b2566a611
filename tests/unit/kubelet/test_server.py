"""The kubelet's server, part by part: certificate subjects, log reading."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from proa.kubelet.housekeeping import rotate
from proa.kubelet.server.logs import LogOptions, parse_options, read_log
from proa.kubelet.server.subject import subject

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LOG = """2026-01-02T03:04:00.000000001Z stdout F one
2026-01-02T03:04:01.000000001Z stderr F two
2026-01-02T03:04:02.000000001Z stdout P thr
2026-01-02T03:04:02.000000002Z stdout F ee
2026-01-02T03:04:03.000000001Z stdout F
2026-01-02T03:04:04.000000001Z stdout F five words in a line
"""


def certificate(*names: tuple[x509.ObjectIdentifier, str]) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(kind, text) for kind, text in names])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(MOMENT)
        .not_valid_after(MOMENT + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.DER)


def test_subject() -> None:
    der = certificate(
        (NameOID.ORGANIZATION_NAME, "system:masters"),
        (NameOID.ORGANIZATION_NAME, "grüße"),
        (NameOID.COMMON_NAME, "ada"),
        (NameOID.COUNTRY_NAME, "DE"),
    )
    assert subject(der) == ("ada", ("system:masters", "grüße"))
    assert subject(certificate((NameOID.COUNTRY_NAME, "DE"))) == ("", ())
    long = "x" * 64
    assert subject(certificate(*[(NameOID.ORGANIZATION_NAME, long)] * 5, (NameOID.COMMON_NAME, long)))[1] == (long,) * 5
    for bad in (b"", b"\x30", b"\x30\x05abc", der[:100]):
        with pytest.raises(ValueError):
            subject(bad)


async def read(path: Path, options: LogOptions, running: int = 0) -> str:
    """Reads a log; `running` is how often the container is still said to run."""
    left = [running]

    async def is_running() -> bool:
        left[0] -= 1
        return left[0] >= 0

    return b"".join([part async for part in read_log(path, options, is_running)]).decode()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (LogOptions(), "one\ntwo\nthree\n\nfive words in a line\n"),
        (LogOptions(tail_lines=1), "five words in a line\n"),
        (LogOptions(tail_lines=2), "\nfive words in a line\n"),
        (LogOptions(tail_lines=0), ""),
        (LogOptions(tail_lines=99), "one\ntwo\nthree\n\nfive words in a line\n"),
        (LogOptions(limit_bytes=5), "one\nt"),
        (LogOptions(stream="stderr"), "two\n"),
        (LogOptions(since="2026-01-02T03:04:03"), "\nfive words in a line\n"),
        (LogOptions(tail_lines=1, timestamps=True), "2026-01-02T03:04:04.000000001Z five words in a line\n"),
    ],
)
async def test_reading_logs(tmp_path: Path, options: LogOptions, expected: str) -> None:
    path = tmp_path / "0.log"
    path.write_text(LOG)
    assert await read(path, options) == expected


async def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert await read(tmp_path / "0.log", LogOptions(follow=True)) == ""


async def test_following_goes_on_after_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text(LOG)
    rotated: list[Path] = []

    async def running() -> bool:
        if rotated:
            return False
        rotated.append(path.rename(tmp_path / "rotated"))
        path.write_text("2026-01-02T03:05:00.000000001Z stdout F after\n")
        return True

    seen = [part async for part in read_log(path, LogOptions(follow=True, tail_lines=1), running)]
    assert b"".join(seen) == b"five words in a line\nafter\n"


def test_log_options() -> None:
    query = {"follow": "true", "tailLines": "5", "sinceSeconds": "10", "stream": "Stderr"}
    assert parse_options(query, MOMENT) == LogOptions(
        follow=True, tail_lines=5, since="2026-01-02T03:03:55.000000", stream="stderr"
    )
    for bad in ({"tailLines": "-1"}, {"tailLines": "x"}, {"limitBytes": "0"}, {"stream": "both"}, {"sinceTime": "now"}):
        with pytest.raises(ValueError):
            parse_options(bad, MOMENT)


def test_rotation_keeps_so_many_files(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    for hour in range(7):
        path.write_text(str(hour))
        rotate(path, MOMENT + timedelta(hours=hour), files_max=5)
    assert len(list(tmp_path.iterdir())) == 4
    assert not path.exists()
    assert {one.read_text() for one in tmp_path.iterdir()} == {"3", "4", "5", "6"}
