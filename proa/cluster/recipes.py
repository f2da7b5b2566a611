"""What maintainer scripts would have done: users, directories, links, and the command that a package is for.

A recipe belongs to a package and is applied when the package is part of an image. The nginx recipe lays files out as
the image of that name on Docker Hub does: content in /usr/share/nginx/html, one server in conf.d/default.conf, logs
on stdout and stderr, SIGQUIT to stop.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from proa.cluster.oci import FileTree, ImageConfig

# name, uid, home: the system users that packages count on (Debian's base-passwd assigns these numbers)
_USERS = (
    ("root", 0, "/root"),
    ("daemon", 1, "/usr/sbin"),
    ("bin", 2, "/bin"),
    ("sys", 3, "/dev"),
    ("mail", 8, "/var/mail"),
    ("www-data", 33, "/var/www"),
    ("nobody", 65534, "/nonexistent"),
)

_NGINX_SITE = """server {
    listen       80;
    server_name  localhost;
    location / {
        root   /usr/share/nginx/html;
        index  index.html index.htm;
    }
}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What to add to an image that holds a package."""

    command: Sequence[str] = ()
    ports: Sequence[str] = ()
    stop_signal: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    directories: Sequence[str] = ()
    finish: Callable[[FileTree], None] | None = None


def _busybox_links(tree: FileTree) -> None:
    """Makes each of busybox's tools a link to it, where no package brought the tool itself."""
    with tempfile.TemporaryDirectory() as directory:
        program = os.path.join(directory, "busybox")
        with open(program, "wb") as file:
            file.write(tree.read("bin/busybox"))
        os.chmod(program, 0o755)
        tools = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split()
    for tool in tools:
        if not any(f"{folder}/{tool}" in tree for folder in ("bin", "sbin")):
            tree.link(f"bin/{tool}", "busybox")


RECIPES: Mapping[str, Recipe] = {
    "nginx": Recipe(
        command=("nginx", "-g", "daemon off;"),
        ports=("80/tcp",),
        stop_signal="SIGQUIT",
        files={"etc/nginx/conf.d/default.conf": _NGINX_SITE},
        links={"var/log/nginx/access.log": "/dev/stdout", "var/log/nginx/error.log": "/dev/stderr"},
        directories=("var/lib/nginx", "var/www"),
    ),
    "busybox-static": Recipe(command=("sh",), finish=_busybox_links),
}


def add_users(tree: FileTree) -> None:
    """Adds passwd, group and shadow-less shadow files, and name resolution order."""
    shell = {"root": "/bin/sh"}
    passwd = "".join(f"{n}:x:{u}:{u}:{n}:{home}:{shell.get(n, '/usr/sbin/nologin')}\n" for n, u, home in _USERS)
    groups = "".join(f"{'nogroup' if n == 'nobody' else n}:x:{u}:\n" for n, u, _ in _USERS)
    tree.file("etc/passwd", passwd)
    tree.file("etc/group", groups)
    tree.file("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")


def apply(packages: Sequence[str], tree: FileTree, config: ImageConfig) -> None:
    """Adds what the packages' recipes say; the first package with a command gives the image its own."""
    add_users(tree)
    for package in packages:
        recipe = RECIPES.get(package)
        if recipe is None:
            continue
        for path in recipe.directories:
            tree.directory(path)
        for path, content in recipe.files.items():
            tree.file(path, content)
        for path, target in recipe.links.items():
            tree.link(path, target)
        if not config.command and not config.entrypoint:
            config.command, config.ports = recipe.command, recipe.ports
            config.stop_signal = recipe.stop_signal
        if recipe.finish:
            recipe.finish(tree)
