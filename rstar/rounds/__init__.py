"""Rounds of self-evolution: spec, planner, status, and the manifests and programs of the stages."""
