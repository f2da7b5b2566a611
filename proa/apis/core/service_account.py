"""ServiceAccount, as of v1."""

from __future__ import annotations

from proa.apis.define import columns, resource
from proa.apis.registry import Subresource
from proa.meta.gvk import GVK

SERVICE_ACCOUNT = resource(
    "",
    "v1",
    "ServiceAccount",
    "serviceaccounts",
    columns=columns("Name", "Age"),
    short_names=("sa",),
    subresources=(
        Subresource(name="token", verbs=("create",), kind=GVK("authentication.k8s.io", "v1", "TokenRequest")),
    ),
    storage_version_hash="pbx9ZvyFpBE=",
)
