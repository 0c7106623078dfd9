"""A Kubernetes cluster for tests on this machine, without Docker, systemd or a registry."""
