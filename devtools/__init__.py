"""Code shared by tests, the benchmark and scripts: servers on free ports, a Kubernetes cluster, sample photos."""
