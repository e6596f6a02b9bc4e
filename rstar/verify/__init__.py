"""Verifiers of final answers, by name.

A verifier that hangs or raises is a wrong answer with that reason. Not covered: finding the answer in a text
(``rstar.trajectory.boxed``).

=============== =====================================================================================
math-verify     equal as mathematics (the default); needs ``Problem.answer``
exact           the same text, white space aside; needs ``Problem.answer``
countdown       reaches the target with every number used once; needs ``data`` with nums and target
=============== =====================================================================================

More verifiers are added with ``@register("name")``, or by an entry point of another distribution in the group
``rstar.verifiers`` (a class or function without arguments that returns a ``Verifier``).
"""

from rstar.verify import countdown, exact, math
from rstar.verify.registry import equivalence, register, verifier, verifier_names

__all__ = ["equivalence", "register", "verifier", "verifier_names"]

register("exact")(exact.ExactVerifier)
register("countdown")(countdown.CountdownVerifier)
register("math-verify", deadline=None)(math.MathVerifier)
