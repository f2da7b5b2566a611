"""What a projected volume shows of the cluster's trust bundles (pure). Follows upstream's projection (KEP-3257)."""

from __future__ import annotations

import base64
import textwrap
from collections.abc import Sequence

from proa.apis.certificates.cluster_trust_bundle import certificates_of
from proa.kubelet.environment import ConfigError
from proa.meta.objects import Obj, labels_of, name_of
from proa.meta.selectors import from_object


def wants_bundles(volume: Obj) -> bool:
    """Tells whether a volume shows trust bundles."""
    return any("clusterTrustBundle" in one for one in (volume.get("projected") or {}).get("sources") or ())


def anchors(source: Obj, bundles: Sequence[Obj]) -> bytes:
    """Returns the certificates that a source chooses, each once, as PEM; raises ConfigError if it must have some and
    there are none."""
    name, signer = source.get("name"), source.get("signerName")
    if name is not None:
        chosen = [one for one in bundles if name_of(one) == name]
    elif source.get("labelSelector") is None:
        chosen = []  # matches nothing, an empty one everything
    else:
        selector = from_object(source["labelSelector"])
        chosen = [
            one
            for one in bundles
            if (one.get("spec") or {}).get("signerName") == signer and selector.matches(labels_of(one))
        ]
    if not chosen and not source.get("optional"):
        what = f'"{name}"' if name is not None else f'of signer "{signer}"'
        raise ConfigError(f"clustertrustbundle {what} not found")
    found = {der for one in chosen for der in certificates_of((one.get("spec") or {}).get("trustBundle") or "")}
    return "".join(map(_pem, sorted(found))).encode()


def _pem(der: bytes) -> str:
    lines = textwrap.wrap(base64.b64encode(der).decode(), 64)
    return "\n".join(("-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""))
