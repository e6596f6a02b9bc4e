"""The laptop driver: the same plan, stage programs and services as on a cluster, as processes of this machine."""
