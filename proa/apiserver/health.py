"""/healthz, /livez, /readyz: named checks, each also at a path of its own, as upstream's `server/healthz`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl

from proa.apiserver.server import TEXT, HttpCall, HttpServer, PageNotFound
from proa.wire.http import Response

# Returns what is wrong, or None.
Check = Callable[[], str | None]


class Health:
    """The checks of one endpoint, in the order in which they are shown."""

    def __init__(self, name: str, checks: Mapping[str, Check]) -> None:
        self.name = name
        self.checks = dict(checks)

    def install(self, server: HttpServer) -> None:
        server.paths[f"/{self.name}"] = self._all
        server.path_prefixes[f"/{self.name}/"] = self._one

    def failures(self) -> dict[str, str]:
        """Returns what is wrong, by check."""
        found = {name: check() for name, check in self.checks.items()}
        return {name: problem for name, problem in found.items() if problem is not None}

    async def _one(self, call: HttpCall) -> Response:
        check = self.checks.get(call.info.path.removeprefix(f"/{self.name}/"))
        if check is None:
            raise PageNotFound
        problem = check()
        if problem is not None:
            return _text(500, f"internal server error: {problem}\n")
        return _text(200, "ok")

    async def _all(self, call: HttpCall) -> Response:
        if call.info.path.endswith("/"):
            raise PageNotFound
        query = call.request.target.partition("?")[2]
        excluded = {value for key, value in parse_qsl(query, keep_blank_values=True) if key == "exclude"}
        unknown = excluded - set(self.checks)
        lines, failed = [], False
        for name, check in self.checks.items():
            if name in excluded:
                lines.append(f"[+]{name} excluded: ok")
                continue
            problem = check()
            failed = failed or problem is not None
            lines.append(f"[+]{name} ok" if problem is None else f"[-]{name} failed: reason withheld")
        if unknown:
            shown = ", ".join(f'"{name}"' for name in sorted(unknown))
            lines.append(f"warn: some health checks cannot be excluded: no matches for {shown}")
        if failed:
            return _text(500, "\n".join([*lines, f"{self.name} check failed"]) + "\n")
        if "verbose" not in call.info.parameters:
            return _text(200, "ok")
        return _text(200, "\n".join([*lines, f"{self.name} check passed"]) + "\n")


def _text(status: int, text: str) -> Response:
    headers = [("Content-Type", TEXT), ("X-Content-Type-Options", "nosniff")]
    return Response(status=status, headers=headers, body=text.encode())
