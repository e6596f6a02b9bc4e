"""A standalone page with the tree viewer: one HTML file without requests to anything. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Any

from rstar.report.embed import script_json, source_hash

_START = """
const entries = JSON.parse(document.getElementById("trees").textContent);
window.rstarViewer = rstarTrees.mount(document.getElementById("viewer"), {trees: entries});
"""
_PAGE_STYLE = """
body { margin: 1rem; } h1 { font: 600 1.3rem system-ui, sans-serif; }
@media (prefers-color-scheme: dark) { body { background: #0d1117; color: #e6edf3; } }
"""


def asset(name: str) -> str:
    """Return a file of ``rstar/report/assets`` as text."""
    return files("rstar.report").joinpath("assets", name).read_text(encoding="utf-8")


def tree_page(entries: Sequence[dict[str, Any]], title: str) -> str:
    """Return the page of trees (``rstar.report.trees.tree_entry``). No script but its own may run in it."""
    script, style = asset("tree.js"), asset("tree.css") + _PAGE_STYLE
    policy = (
        f"default-src 'none'; script-src {source_hash(script)} {source_hash(_START)}; style-src {source_hash(style)}"
    )
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(title)}</title>",
            f"<style>{style}</style></head><body>",
            f'<main><h1>{escape(title)}</h1><div id="viewer"></div></main>',
            f'<script type="application/json" id="trees">{script_json(list(entries))}</script>',
            f"<script>{script}</script>",
            f"<script>{_START}</script>",
            "</body></html>",
        ]
    )
