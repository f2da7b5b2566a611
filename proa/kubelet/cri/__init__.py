"""The container runtime interface: values and protocol (`types`), the real client (`client`), one in memory (`fake`).

`client` imports grpcio and is imported only where a real runtime is used.
"""

from proa.kubelet.cri.types import Container, Image, Runtime, RuntimeFailure, Sandbox

__all__ = ["Container", "Image", "Runtime", "RuntimeFailure", "Sandbox"]
