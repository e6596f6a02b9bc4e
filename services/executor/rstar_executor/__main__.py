"""Start the service with ``python -m rstar_executor``."""

import typer

from rstar_executor.server.main import serve

if __name__ == "__main__":
    typer.run(serve)
