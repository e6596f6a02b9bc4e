"""Start the service with ``python -m rstar_search``."""

import typer

from rstar_search.main import serve

if __name__ == "__main__":
    typer.run(serve)
