"""A Kubernetes of the tests' own, on this machine: without Docker, systemd or a registry."""
