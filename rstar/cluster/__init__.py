"""The platform's objects on a Kubernetes cluster: their names, and a thin client of the API."""
