"""Data inside an HTML page: JSON that no text of a store can break out of, and packed JSON where there is much of it.

A browser ends a ``<script>`` at the first ``</script``, also within a string, so JSON for one holds no ``<``, ``>`` or
``&``: only their escapes. Packed JSON is base64 of gzip; ``tree.js`` unpacks it with ``DecompressionStream``.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from typing import Any

_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def script_json(value: Any) -> str:
    """Return ``value`` as ASCII JSON for the content of a script element. Raises ``ValueError`` for NaN."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).translate(_ESCAPES)


def packed(value: Any) -> str:
    """Return ``value`` as base64 of gzipped JSON; the same value gives the same text. Raises ``ValueError`` for NaN."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def unpacked(text: str) -> Any:
    """Return the value of ``packed``."""
    return json.loads(gzip.decompress(base64.b64decode(text)))


def source_hash(content: str) -> str:
    """Return the name of an inline script or style in a Content-Security-Policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
