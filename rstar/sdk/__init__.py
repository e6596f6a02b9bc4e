"""``rstar.Solver`` and ``rstar.Rounds``: the platform from a notebook or a program, instead of the command line."""
