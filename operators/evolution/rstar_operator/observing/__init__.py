"""From plain bodies to the planner's words (``rstar.rounds.observed``): pure functions, one per kind of thing."""
