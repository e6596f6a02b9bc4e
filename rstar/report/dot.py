"""Search trees as Graphviz text. Pure: every text of a store is inside a quoted and escaped string."""

from __future__ import annotations

from collections.abc import Iterable

from rstar.record import NodeRecord, SearchRecord

LABEL_CHARACTERS = 60


def quoted(text: str) -> str:
    r"""Return ``text`` as a quoted string of the DOT language, shown as it is: ``\`` starts no escape in it."""
    shown = "".join(c if c == "\n" or ord(c) >= 32 else " " for c in text)
    return '"' + shown.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def dot(trees: Iterable[tuple[str, SearchRecord]]) -> str:
    """Return one graph with a cluster per (label, record); the path of the chosen answer is bold."""
    lines = ["digraph trees {", '  node [shape=box, fontname="monospace", style="rounded"];']
    for number, (label, record) in enumerate(trees):
        chosen = set(record.path(record.chosen))
        lines += [f"  subgraph cluster_{number} {{", f"    label={quoted(label)};"]
        for position, node in enumerate(record.nodes):
            name = f"t{number}_{position}"
            bold = ", penwidth=3" if position in chosen else ""
            lines.append(f"    {name} [label={quoted(_label(node))}, color={_colour(node)}{bold}];")
            if node.parent >= 0:
                lines.append(f"    t{number}_{node.parent} -> {name};")
        lines.append("  }")
    return "\n".join([*lines, "}", ""])


def _label(node: NodeRecord) -> str:
    text = " ".join(node.text.split()) or "root"
    shown = text if len(text) <= LABEL_CHARACTERS else f"{text[: LABEL_CHARACTERS - 1]}…"
    score = "" if node.score is None else f"  PPM {node.score:+.2f}"
    return f"{shown}\nQ {node.q:+.2f}  N {node.visits}{score}"


def _colour(node: NodeRecord) -> str:
    if not node.valid or node.correct is False:
        return "red"
    return "darkgreen" if node.correct else "black"
