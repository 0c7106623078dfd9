"""What tests, the benchmark and scripts share: servers on free ports, a Kubernetes, sample photos."""
