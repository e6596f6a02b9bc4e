"""The checks of ``rstar doctor``: functions that gather facts, and pure functions that judge them."""
