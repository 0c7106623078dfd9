"""HTTP clients of Imago's API and of the Kubernetes API, with shared timeouts and retries."""
