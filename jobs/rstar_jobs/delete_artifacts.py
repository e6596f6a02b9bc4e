"""Delete a round's artefacts from the store, for rounds with the ``deletionPolicy`` ``DeleteArtifacts``.

    python -m rstar_jobs.delete_artifacts --store s3://rstar/lab --round gsm8k-r1

Manifests are deleted first, so that a stage with missing files never looks done. Each object that exists at the start is
deleted once. After a kill the program can be started again; an empty round is no error. Nothing outside ``rounds/NAME/``
is touched, and a name that no round can have is bad input.

    0 deleted | 1 the store failed, may be tried again | 2 bad input | 143 ended by SIGTERM
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import structlog

from rstar.rounds.observed import BAD_INPUT
from rstar.rpc.logs import configure_logs
from rstar.store.digests import MANIFEST
from rstar.store.open import open_store
from rstar.store.store import Store, StoreError

REQUESTS: Final = 8
"""Concurrent deletions: each is a request of a few milliseconds to the object store."""

_ROUND: Final = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


def delete_artifacts(store: Store, name: str) -> int:
    """Delete all objects below ``rounds/NAME/`` and return their number. Raises ``ValueError`` for an impossible name."""
    if not _ROUND.fullmatch(name):
        raise ValueError(f"{name!r} is no round's name: use lower case letters, digits and dashes")
    keys = list(store.list(f"rounds/{name}/"))
    manifests = [key for key in keys if key.endswith(f"/{MANIFEST}")]
    for group in (manifests, sorted(set(keys) - set(manifests))):
        with ThreadPoolExecutor(REQUESTS) as pool:
            try:
                list(pool.map(store.delete, group))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    return len(keys)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    parser = argparse.ArgumentParser(prog="rstar_jobs.delete_artifacts", description="Delete a round's artefacts.")
    parser.add_argument("--store", required=True, metavar="URI", help="a folder or s3://BUCKET/PREFIX")
    parser.add_argument("--round", required=True, metavar="NAME", help="the round's name")
    options = parser.parse_args(arguments)
    configure_logs("delete-artifacts")
    # Without a handler a container's first process ignores SIGTERM. No deletion needs to be completed first.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        deleted = delete_artifacts(open_store(options.store), options.round)
    except (ValueError, StoreError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return BAD_INPUT if isinstance(error, ValueError) else 1
    structlog.get_logger().info("artefacts deleted", round=options.round, objects=deleted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
