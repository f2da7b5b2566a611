"""What Proa's own controllers are made with: the runtime of `proa.client.controller` and an operator's options."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from proa.client import controller
from proa.client.controller import DONE, Result, Terminal, ignore_absent, is_namespace_terminating

__all__ = [
    "DONE",
    "Context",
    "Controller",
    "Options",
    "Result",
    "Terminal",
    "ignore_absent",
    "is_namespace_terminating",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What an operator may set, with upstream's defaults; spans are in seconds."""

    root_ca: str = ""  # PEM that pods verify the API server with
    cluster_cidr: str = ""  # pod addresses; each node gets a part of it if set
    node_cidr_mask_size: int = 24
    node_grace_seconds: float = 50.0
    node_check_seconds: float = 5.0
    # How many silent nodes of a zone are given up per second: usually, and where more than a share of a zone with more
    # than so many nodes is silent (in a smaller one none).
    node_evictions_per_second: float = 0.1
    node_secondary_evictions_per_second: float = 0.01
    unhealthy_zone_share: float = 0.55
    large_cluster_nodes: int = 50
    terminated_pods_max: int = 12500
    orphan_check_seconds: float = 20.0
    # The CA that signs certificate requests, PEM files.
    signing_certificate: Path | None = None
    signing_key: Path | None = None
    signing_seconds_max: int = 90 * 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Context(controller.Context):
    options: Options = field(default_factory=Options)


class Controller(controller.Controller):
    """Base of the controllers in this folder."""

    workers: ClassVar[int] = 4

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.context: Context = context
