"""``python -m rstar_operator``."""

from rstar_operator.main import run

if __name__ == "__main__":
    run()
