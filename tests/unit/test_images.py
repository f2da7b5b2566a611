"""Images without Docker: deterministic archives, merged directories, recipes, and the sandbox's tiny program."""

import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from proa.cluster import pause, recipes
from proa.cluster.images import archive_names
from proa.cluster.oci import FileTree, ImageConfig, full_name, write_image


def layer_of(archive: Path) -> tarfile.TarFile:
    with tarfile.open(archive) as outer:
        index = json.load(outer.extractfile("index.json"))  # type: ignore[arg-type]
        manifest = json.load(outer.extractfile(blob(index["manifests"][0]["digest"])))  # type: ignore[arg-type]
        data = outer.extractfile(blob(manifest["layers"][0]["digest"])).read()  # type: ignore[union-attr]
    return tarfile.open(fileobj=io.BytesIO(data))


def blob(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def tree() -> FileTree:
    made = FileTree()
    made.file("bin/tool", b"#!/bin/sh\n", 0o755)
    made.link("sbin/other", "../bin/tool")
    return made


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    digests = {write_image(tmp_path / f"{n}.tar", "app", tree().tar(), ImageConfig(command=["tool"])) for n in "ab"}
    assert len(digests) == 1
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    assert archive_names(tmp_path / "a.tar") == ["docker.io/library/app:latest"]


def test_top_directories_are_merged_into_usr(tmp_path: Path) -> None:
    write_image(tmp_path / "a.tar", "app", tree().tar(), ImageConfig())
    names = layer_of(tmp_path / "a.tar").getnames()
    assert "usr/bin/tool" in names
    assert "usr/sbin/other" in names
    assert "bin/tool" not in names


def test_packages_keep_modes_and_owners() -> None:
    package = io.BytesIO()
    with tarfile.open(fileobj=package, mode="w") as archive:
        info = tarfile.TarInfo("./lib/secret")
        info.mode, info.uid, info.size = 0o4750, 42, 1
        archive.addfile(info, io.BytesIO(b"x"))
        archive.addfile(tarfile.TarInfo("./usr/share/doc/readme"))
    package.seek(0)
    made = FileTree()
    with tarfile.open(fileobj=package) as archive:
        made.add_tar(archive, ["usr/share/doc/"])
    with tarfile.open(fileobj=io.BytesIO(made.tar())) as layer:
        member = layer.getmember("usr/lib/secret")
        assert (member.mode, member.uid) == (0o4750, 42)
        assert "usr/share/doc/readme" not in layer.getnames()


def test_the_nginx_recipe_is_laid_out_as_its_image_on_the_hub() -> None:
    made, config = FileTree(), ImageConfig()
    recipes.apply(["libc6", "nginx"], made, config)
    assert list(config.command) == ["nginx", "-g", "daemon off;"]
    assert config.to_oci()["StopSignal"] == "SIGQUIT"
    assert "etc/nginx/conf.d/default.conf" in made
    assert b"www-data:x:33:33" in made.read("etc/passwd")


def test_a_command_of_ones_own_wins_over_the_recipes() -> None:
    config = ImageConfig(command=["mine"])
    recipes.apply(["nginx"], FileTree(), config)
    assert list(config.command) == ["mine"]
    assert not config.ports


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.25", "docker.io/library/nginx:1.25"),
        ("me/app", "docker.io/me/app:latest"),
        ("registry.example:5000/app", "registry.example:5000/app:latest"),
        ("localhost/app:1", "localhost/app:1"),
        ("a/b@sha256:00", "docker.io/a/b@sha256:00"),
    ],
)
def test_full_names(short: str, full: str) -> None:
    assert full_name(short) == full


def test_the_sandbox_program_waits_and_ignores_dead_children(tmp_path: Path) -> None:
    program = tmp_path / "pause"
    program.write_bytes(pause.executable())
    program.chmod(0o755)
    with subprocess.Popen([program]) as process:
        try:
            status = Path(f"/proc/{process.pid}/status")
            ignored = 0
            while not ignored & 1 << 16:  # SIGCHLD is signal 17
                assert process.poll() is None
                line = next(one for one in status.read_text().splitlines() if one.startswith("SigIgn"))
                ignored = int(line.split()[1], 16)
        finally:
            process.kill()


def test_the_sandbox_program_exists_for_arm_too() -> None:
    assert pause.executable("aarch64")[18:20] == b"\xb7\x00"
    with pytest.raises(KeyError):
        pause.executable("riscv64")
