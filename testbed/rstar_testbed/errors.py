"""How the testbed ends badly: one sentence that says what failed, where, and how to mend it."""

from __future__ import annotations


class TestbedError(Exception):
    """The testbed cannot do what was asked. ``str`` is shown as it is."""

    __test__ = False  # The name is the package's, not a test's.


class CommandError(TestbedError):
    """A command of the testbed (kubectl, helm) ended badly; ``output`` is all that it printed."""

    def __init__(self, command: str, code: int, output: str) -> None:
        super().__init__(f"{command} ended with exit code {code}: {output.strip()}")
        self.code = code
        self.output = output
