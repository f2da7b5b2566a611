"""The kubelet, part by part."""
