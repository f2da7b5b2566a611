"""Registers what this folder serves with the API and its HTTP server."""

from __future__ import annotations

from proa.apiserver.api import Core
from proa.apiserver.authn.chain import Authentication
from proa.apiserver.authz.chain import Authorization
from proa.apiserver.live import Live
from proa.apiserver.special.binding import Bindings
from proa.apiserver.special.eviction import Evictions
from proa.apiserver.special.reviews import Reviews, handlers
from proa.apiserver.special.tokenrequest import TokenRequests


def install_special(core: Core, live: Live, authentication: Authentication, authorization: Authorization) -> None:
    """Adds the handlers of virtual resources and subresources."""
    clock = core.shared.clock
    core.special.update(handlers(Reviews(authentication, authorization, clock)))
    bindings = Bindings(core)
    core.special["", "pods", "binding"] = {"create": bindings.create}
    core.special["", "bindings", ""] = {"create": bindings.create}
    core.special["", "pods", "eviction"] = {"create": Evictions(core, live).create}
    tokens = TokenRequests(authentication.tokens, live, clock)
    core.special["", "serviceaccounts", "token"] = {"create": tokens.create}
