"""The kubelet's HTTPS server: logs, exec, attach, port-forward, statistics. Every request is identified and allowed."""
