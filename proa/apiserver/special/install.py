"""Registers what this folder serves with the API and its HTTP server."""

from __future__ import annotations

from proa.apiserver.api import Core
from proa.apiserver.authn.chain import Authentication
from proa.apiserver.authz.chain import Authorization
from proa.apiserver.live import Live
from proa.apiserver.server import HttpServer
from proa.apiserver.special.binding import Bindings
from proa.apiserver.special.connecting import Connections
from proa.apiserver.special.endpoints import ServiceEndpoints
from proa.apiserver.special.eviction import Evictions
from proa.apiserver.special.nodes import Nodes
from proa.apiserver.special.podstreams import PodStreams
from proa.apiserver.special.proxying import Proxies
from proa.apiserver.special.reviews import Reviews, handlers
from proa.apiserver.special.tokenrequest import TokenRequests


def install_special(
    core: Core,
    http: HttpServer,
    live: Live,
    authentication: Authentication,
    authorization: Authorization,
    nodes: Nodes,
    endpoints: ServiceEndpoints,
) -> None:
    """Adds the handlers of virtual resources and subresources."""
    clock = core.shared.clock
    core.special.update(handlers(Reviews(authentication, authorization, clock)))
    bindings = Bindings(core)
    core.special["", "pods", "binding"] = {"create": bindings.create}
    core.special["", "bindings", ""] = {"create": bindings.create}
    core.special["", "pods", "eviction"] = {"create": Evictions(core, live).create}
    tokens = TokenRequests(authentication.tokens, live, clock)
    core.special["", "serviceaccounts", "token"] = {"create": tokens.create}
    connections = Connections(core)
    streams = PodStreams(live, nodes, authorization, connections, clock)
    proxies = Proxies(live, nodes, endpoints, connections)
    http.raw["", "pods", "log"] = streams.log
    http.raw["", "pods", "exec"] = streams.exec
    http.raw["", "pods", "attach"] = streams.attach
    http.raw["", "pods", "portforward"] = streams.portforward
    http.raw["", "pods", "proxy"] = proxies.pods
    http.raw["", "services", "proxy"] = proxies.services
    http.raw["", "nodes", "proxy"] = proxies.nodes
