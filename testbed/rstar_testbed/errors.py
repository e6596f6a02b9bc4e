"""Errors of the testbed: one sentence that says what failed, where, and how to mend it."""

from __future__ import annotations


class TestbedError(Exception):
    """The testbed cannot do what was asked. Its text is shown to the user unchanged."""

    __test__ = False  # The name is the package's, not a test's.


class CommandError(TestbedError):
    """A command of the testbed (kubectl, helm) failed. ``output`` is what it printed."""

    def __init__(self, command: str, code: int, output: str) -> None:
        super().__init__(f"{command} ended with exit code {code}: {output.strip()}")
        self.code = code
        self.output = output
