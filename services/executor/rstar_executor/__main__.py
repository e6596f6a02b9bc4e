"""``python -m rstar_executor``."""

import typer

from rstar_executor.main import serve

typer.run(serve)
