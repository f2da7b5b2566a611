"""The `proa` command: one module per verb, loaded when it is called, so that no verb pays for another's imports.

Verbs print and nothing else; what they do is in `proa.cluster`. A Problem becomes one line and exit code 1.
"""

from __future__ import annotations

import importlib
import sys

import click

# Verb -> (module, one line for the help). The functions are called like their verb, `-` as `_`.
_VERBS = {
    "up": ("up", "Start a cluster and wait until it is ready."),
    "down": ("down", "Stop a cluster and remove everything of it."),
    "status": ("status", "Show a cluster's processes, nodes and address."),
    "list": ("listing", "List the clusters on this machine."),
    "kubeconfig": ("kubeconfig", "Print a cluster's kubeconfig."),
    "logs": ("logs", "Show what a cluster's components wrote."),
    "doctor": ("doctor", "Say what this machine lacks, and how to mend it."),
    "image": ("image", "Build, load and list images."),
    "server": ("server", "Run a control plane in the foreground."),
    "agent": ("agent", "Run a node's agent in the foreground."),
    "encryption": ("encryption", "Show and change the keys that encrypt secrets on disk."),
    "token": ("token", "Make tokens with which nodes join."),
    "apiserver": ("components", "Run the API server alone."),
    "scheduler": ("components", "Run the scheduler alone."),
    "controller-manager": ("components", "Run the controllers alone."),
    "cloud-controller-manager": ("components", "Run the cloud controllers alone."),
    "kubelet": ("components", "Run a node's kubelet alone."),
    "simulated-nodes": ("components", "Run simulated nodes alone, for any cluster."),
    "proxy": ("components", "Run a node's service proxy alone."),
}


class _Verbs(click.Group):
    """Imports a verb's module when the verb is used."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in _VERBS:
            return None
        module = importlib.import_module(f"proa.cli.{_VERBS[name][0]}")
        command = getattr(module, "listing" if name == "list" else name.replace("-", "_"))
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _VERBS.items()])


@click.command(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="proa", message="proa %(version)s")
def cli() -> None:
    """Kubernetes on this machine, in one command. Start with: proa up"""


def main() -> None:
    """The console entry point."""
    from proa.cluster.problems import Problem

    try:
        cli(prog_name="proa")
    except Problem as problem:
        click.echo(f"proa: {problem}", err=True)
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(1)
