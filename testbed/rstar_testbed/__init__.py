"""A real Kubernetes control plane on this machine, for developers and tests."""
