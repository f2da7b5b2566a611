"""proa image build, load, list"""

from __future__ import annotations

import time
from pathlib import Path

import click

from proa.cli.options import cluster_options, find, running
from proa.cluster.problems import Problem

_LOAD = click.option(
    "--load/--no-load",
    "load_it",
    default=None,
    help="Put it on the cluster's nodes as well, or don't [default: if the cluster runs].",
)


@click.group()
def image() -> None:
    """Build, load and list images, with no registry and no Docker."""


@image.command()
@click.argument("image_name", metavar="NAME")
@click.option("--deb", "debs", multiple=True, metavar="PKG", help="A distribution package, with all it depends on.")
@click.option("--file", "files", multiple=True, metavar="SOURCE:TARGET", help="A file to add.")
@click.option("--cmd", help="The command, as words [default: what the first package is for].")
@click.option("--entrypoint", help="The entry point, as words.")
@click.option("--env", "environment", multiple=True, metavar="NAME=VALUE", help="An environment variable.")
@click.option("--user", default="", help="The user that it runs as.")
@click.option("--workdir", default="", help="The directory that it starts in.")
@_LOAD
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Also copy the archive there.")
@cluster_options
def build(
    image_name: str,
    debs: tuple[str, ...],
    files: tuple[str, ...],
    cmd: str | None,
    entrypoint: str | None,
    environment: tuple[str, ...],
    user: str,
    workdir: str,
    load_it: bool | None,
    output: Path | None,
    name: str | None,
    data_dir: Path | None,
) -> None:
    """Build an image NAME from distribution packages and files."""
    import shlex
    import shutil

    from proa.cluster import images
    from proa.cluster.oci import ImageConfig, full_name

    if not debs and not files:
        raise click.UsageError("say what goes in: --deb PKG or --file SOURCE:TARGET")
    config = ImageConfig(
        command=shlex.split(cmd or ""), entrypoint=shlex.split(entrypoint or ""), user=user, directory=workdir
    )
    config.environment = {**config.environment, **dict(_pair(one, "=", "--env") for one in environment)}
    contents = {}
    for one in files:
        source, target = _pair(one, ":", "--file")
        try:
            contents[target] = Path(source).read_bytes()
        except OSError as error:
            raise Problem(f"{source} cannot be read ({error.strerror})", "check --file") from error
    before = time.monotonic()
    archive, digest = images.build(image_name, debs, config, contents)
    if output:
        shutil.copyfile(archive, output)
    size = archive.stat().st_size / 2**20
    click.echo(f"{full_name(image_name)} {digest[:19]}… {size:.1f} MiB in {time.monotonic() - before:.1f} s")
    click.echo(str(output or archive))
    _fill(load_it, name, data_dir, archive)


@image.command()
@click.argument("image_name", metavar="NAME")
@_LOAD
@cluster_options
def pull(image_name: str, load_it: bool | None, name: str | None, data_dir: Path | None) -> None:
    """Pull an image from its registry to this machine, for nodes that have no way there themselves."""
    from proa.cluster import images, registry

    archive = images.archive_path(image_name)
    digest = registry.pull(image_name, archive)
    click.echo(f"{archive} {digest[:19]}…")
    _fill(load_it, name, data_dir, archive)


@image.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@cluster_options
def load(files: tuple[Path, ...], name: str | None, data_dir: Path | None) -> None:
    """Load image archives (OCI or docker save), or images built here by name, into every node."""
    from proa.cluster import images

    _load(name, data_dir, [one if one.exists() else images.cached(str(one)) or one for one in files])


@image.command("list")
@cluster_options
def list_(name: str | None, data_dir: Path | None) -> None:
    """List the images of a cluster's nodes."""
    from proa.cluster import images

    cluster = find(name, data_dir)
    for node in cluster.nodes:
        for reference, size in images.listed(cluster.run / node.name / "containerd.sock"):
            click.echo(f"{node.name}  {reference}  {size}")


def _fill(load_it: bool | None, name: str | None, data_dir: Path | None, archive: Path) -> None:
    """Loads a new image if it was asked for, or if there is a cluster that can have it."""
    if load_it or (load_it is None and running(name, data_dir)):
        _load(name, data_dir, [archive])


def _load(name: str | None, data_dir: Path | None, archives: list[Path]) -> None:
    from proa.cluster import images

    cluster = find(name, data_dir)
    before = time.monotonic()
    names = images.load_everywhere(cluster, archives)
    took = time.monotonic() - before
    click.echo(f"loaded {', '.join(names)} into {len(cluster.nodes)} node(s) in {took:.1f} s")


def _pair(text: str, separator: str, option: str) -> tuple[str, str]:
    left, found, right = text.partition(separator)
    if not found or not left:
        raise click.UsageError(f"{option} wants the form A{separator}B, not {text!r}")
    return left, right
