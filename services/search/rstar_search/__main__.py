"""``python -m rstar_search``: the service from the command line."""

import typer

from rstar_search.main import serve

if __name__ == "__main__":
    typer.run(serve)
