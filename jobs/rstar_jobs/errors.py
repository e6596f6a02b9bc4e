"""The two errors that give a stage program an exit code of its own (see ``program``)."""

from __future__ import annotations


class BadInputError(Exception):
    """The stage cannot work with its input, and a retry cannot help. The message is one sentence."""


class TerminatedError(Exception):
    """SIGTERM arrived. The next attempt resumes from what is in the store."""
