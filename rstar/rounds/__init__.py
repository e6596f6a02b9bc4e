"""Rounds of self-evolution: the spec, the plan, what stages leave behind, and where it is kept."""
