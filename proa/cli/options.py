"""Options that many verbs share, and finding the cluster that they mean."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from proa.cluster import state
from proa.cluster.problems import Problem
from proa.cluster.state import ApiSettings, AuditSettings, Cluster

F = TypeVar("F", bound=Callable[..., Any])


def cluster_options(function: F) -> F:
    """Adds --name and --data-dir, which together say which cluster is meant."""
    for option in (
        click.option("--data-dir", type=click.Path(path_type=Path), help="The cluster's directory [default: by name]."),
        click.option("--name", help="The cluster's name [default: default, or the one in --data-dir]."),
    ):
        function = option(function)
    return function


class _Seconds(click.ParamType):  # type: ignore[type-arg]
    """A number of seconds, or a duration such as `500ms`, `30s` or `1m30s`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
        try:
            return float(value)
        except ValueError:
            parts = re.findall(r"([0-9.]+)(ms|s|m|h)", value)
            if not parts or "".join(map("".join, parts)) != value:
                self.fail(f"{value!r} is no duration such as 500ms, 30s or 1m30s", param, ctx)
            return sum(float(number) * units[unit] for number, unit in parts)


_FILE = click.Path(path_type=Path, exists=True, dir_okay=False, resolve_path=True)
_AUDIT = (
    ("policy-file", {"type": _FILE, "help": "An audit.k8s.io/v1 Policy [default: metadata of all but probes]."}),
    (
        "log-path",
        {"help": "Where events are logged; '-': standard output, 'off': nowhere [default: logs/audit.log]."},
    ),
    ("log-maxsize", {"type": click.IntRange(0), "help": "MiB at which the log is rotated [default: 32]."}),
    ("log-maxbackup", {"type": click.IntRange(0), "help": "How many rotated logs are kept, 0: all [default: 4]."}),
    ("log-maxage", {"type": click.IntRange(0), "help": "Days for which they are kept, 0: for ever [default: 0]."}),
    ("webhook-config-file", {"type": _FILE, "help": "A kubeconfig of where events are sent, too."}),
    ("webhook-batch-max-size", {"type": click.IntRange(1), "help": "Events per request [default: 400]."}),
    ("webhook-batch-max-wait", {"type": _Seconds(), "help": "How long a batch waits to be full [default: 30s]."}),
    ("webhook-batch-buffer-size", {"type": click.IntRange(1), "help": "Events that may wait [default: 10000]."}),
    ("webhook-initial-backoff", {"type": _Seconds(), "help": "How long the first retry waits [default: 10s]."}),
)


def audit_options(function: F) -> F:
    """Adds --audit-…, named as upstream's; the function gets them as `audit`, AuditSettings."""

    @functools.wraps(function)
    def wrapped(**given: Any) -> Any:
        taken = {name: given.pop(f"audit_{name.replace('-', '_')}") for name, _ in _AUDIT}
        seconds = ("webhook-batch-max-wait", "webhook-initial-backoff")
        settings: dict[str, Any] = {
            name.replace("-", "_") + ("_seconds" if name in seconds else ""): str(value)
            if isinstance(value, Path)
            else value
            for name, value in taken.items()
            if value is not None
        }
        path = settings.get("log_path")
        if path not in (None, "-", "off"):
            settings["log_path"] = str(Path(path).resolve())
        return function(audit=AuditSettings(**settings), **given)

    decorated: Any = wrapped
    for name, attributes in reversed(_AUDIT):
        decorated = click.option(f"--audit-{name}", **attributes)(decorated)
    found: F = decorated
    return found


def encryption_options(function: F) -> F:
    """Adds what says which resources are encrypted on disk, and with which keys."""
    for option in (
        click.option(
            "--encryption-provider-config", "encryption_config", type=_FILE, help="An EncryptionConfiguration."
        ),
        click.option(
            "--encrypt", "encrypted_resources", multiple=True, help="A resource to encrypt on disk [default: secrets]."
        ),
    ):
        function = option(function)
    return function


_API = {
    "enable-admission-plugins": "Admission plugins to run beside the usual ones, such as DenyServiceExternalIPs.",
    "disable-admission-plugins": "Admission plugins not to run.",
    "runtime-config": "APIs to serve beside the usual ones, such as certificates.k8s.io/v1beta1=true.",
}


def api_options(function: F) -> F:
    """Adds what the API server runs and serves, named as upstream's; the function gets it as `api`, ApiSettings."""

    @functools.wraps(function)
    def wrapped(**given: Any) -> Any:
        lists = {name.replace("-", "_"): given.pop(name.replace("-", "_")) for name in _API}
        named = {name: tuple(one.strip() for one in text.split(",") if one.strip()) for name, text in lists.items()}
        return function(api=ApiSettings(**named), **given)

    decorated: Any = wrapped
    for name, about in reversed(_API.items()):
        decorated = click.option(f"--{name}", default="", metavar="LIST", help=about)(decorated)
    found: F = decorated
    return found


def find(name: str | None, data_dir: Path | None) -> Cluster:
    """Returns the cluster that the options mean; raises Problem if there is none."""
    if data_dir is None:
        return state.existing(name or "default")
    cluster = state.load_directory(data_dir)
    if name and cluster.name != name:
        raise Problem(f"{data_dir} holds cluster {cluster.name!r}, not {name!r}", "leave out --name or --data-dir")
    return cluster


def running(name: str | None, data_dir: Path | None) -> bool:
    """Tells whether the options mean a cluster that runs; raises Problem if they name one that does not exist."""
    from proa.cluster.up import is_running

    if name is None and data_dir is None and state.load("default") is None:
        return False
    return is_running(find(name, data_dir))
