"""What can be wrong with an operation on rounds. Every message is one sentence for the user."""

from __future__ import annotations


class RoundsError(Exception):
    """The operation was started and failed, such as a store or a cluster that does not answer."""


class RoundsInputError(RoundsError, ValueError):
    """The request is wrong, and nothing was started or changed."""


class UnknownRoundError(RoundsInputError, LookupError):
    """There is no round of this name; the message names the nearest."""


class WaitTimeoutError(RoundsError, TimeoutError):
    """A round has not ended within the given time. It goes on."""
