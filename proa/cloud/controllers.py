"""Which cloud controllers a provider needs: those of the parts that it has."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from proa.client.controller import Context, Controller
from proa.cloud.interface import Provider, load


def controllers(name: str, config: str = "") -> Sequence[Callable[[Context], Controller]]:
    """Returns makers of the cloud controllers for the provider called `name`; each is called with a context.

    The provider is made once, with the first context. Raises ValueError when called if there is no such provider.
    """
    made: list[Provider] = []

    def provider(context: Context) -> Provider:
        if not made:
            made.append(load(name, config, context.informers))
        return made[0]

    def services(context: Context) -> Controller:
        from proa.cloud.services import ServiceController

        return ServiceController(context, provider(context))

    def nodes(context: Context) -> Controller:
        from proa.cloud.nodes import CloudNodeController

        return CloudNodeController(context, provider(context))

    def routes(context: Context) -> Controller:
        from proa.cloud.routes import RouteController

        return RouteController(context, provider(context))

    if name == "local":
        return (services,)
    return (services, nodes, routes)
