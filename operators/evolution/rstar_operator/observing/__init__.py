"""From plain bodies to the planner's data (``rstar.rounds.observed``): pure functions, one module per kind of object."""
