"""Start the service with ``python -m rstar_ppm``."""

import typer

from rstar_ppm.main import serve

if __name__ == "__main__":
    typer.run(serve)
