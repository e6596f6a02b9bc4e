"""``rstar ...``: the command line. One module per command; heavy imports only inside the command that needs them."""
