"""Both values of an expression with a plus-minus sign."""

from __future__ import annotations

from rstar.verify.equality.tree import Answer, Apply, Collection, Relation, negative


def contains(answer: Answer, name: str) -> bool:
    """Return whether an operation ``pm`` (or its opposite ``mp``) is in an expression or relation."""
    match answer:
        case Apply(own, arguments):
            return own in {name, "mp"} or any(contains(a, name) for a in arguments)
        case Relation(parts, _) | Collection("tuple", parts):
            return any(contains(part, name) for part in parts)
    return False


def replaced(answer: Answer, sign: int) -> Answer:
    """Return ``answer`` with the upper signs (1) or the lower ones (-1)."""
    match answer:
        case Apply(("pm" | "mp") as own, (argument,)):
            inner = replaced(argument, sign)
            return inner if (own == "pm") == (sign > 0) else negative(inner)
        case Apply(own, arguments):
            return Apply(own, tuple(replaced(a, sign) for a in arguments))
        case Relation(sides, signs):
            return Relation(tuple(replaced(side, sign) for side in sides), signs)
        case Collection("tuple", items):
            return Collection("tuple", tuple(replaced(item, sign) for item in items))
    return answer
