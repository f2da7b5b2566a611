"""Names of kinds and resources: group, version, kind; group, version, resource."""

from __future__ import annotations

from typing import NamedTuple


class GVK(NamedTuple):
    """Group, version and kind. The core group is the empty string."""

    group: str
    version: str
    kind: str

    @property
    def api_version(self) -> str:
        """`v1` for the core group, else `group/version`."""
        return f"{self.group}/{self.version}" if self.group else self.version


class GVR(NamedTuple):
    """Group, version and resource (plural, lower case): what a path and a client name."""

    group: str
    version: str
    resource: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def group_resource(self) -> str:
        """`pods` for the core group, else `deployments.apps`: how Status messages name a resource."""
        return f"{self.resource}.{self.group}" if self.group else self.resource


def split_api_version(api_version: str) -> tuple[str, str]:
    """Splits `apps/v1` into ("apps", "v1") and `v1` into ("", "v1"); raises ValueError for more than one slash."""
    group, _, version = api_version.rpartition("/")
    if "/" in group:
        raise ValueError(f"unexpected GroupVersion string: {api_version}")
    return group, version
