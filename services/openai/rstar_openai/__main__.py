"""Start the service with ``python -m rstar_openai``."""

import typer

from rstar_openai.main import serve

if __name__ == "__main__":
    typer.run(serve)
