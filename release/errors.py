"""The error that ends a release with one sentence and exit code 2."""

from __future__ import annotations


class ReleaseError(Exception):
    """What is wrong, where, and how to mend it."""
