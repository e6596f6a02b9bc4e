"""Start the service with ``python -m rstar_policy``."""

import typer

from rstar_policy.main import serve

if __name__ == "__main__":
    typer.run(serve)
