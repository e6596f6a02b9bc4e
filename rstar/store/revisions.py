"""The commits of a round's models and data sets on the hub: found once, recorded in the store, used by all its programs.

Services and stages start in any order and in many copies, so the first that needs a name records its commit under
``rounds/ROUND/revisions/``, and all others read it. A branch that moves while the round runs changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from rstar.hub import commit_of
from rstar.hub_name import SCHEME, HubKind, read_hub_name
from rstar.store.store import Store


def pinned(uri: str, kind: HubKind, store: Store, round_name: str) -> str:
    """Return ``hf:NAME@COMMIT`` for a name on the hub with any revision, and every other URI as it is.

    Raises ``ValueError`` with one sentence when the name is malformed, unknown to the hub, or neither cached nor
    reachable, and ``StoreError``.
    """
    if not is_on_hub(uri, kind):
        return uri
    name = read_hub_name(uri, kind)
    if name.is_fixed:
        return name.uri
    # Configurations of a data set are parts of one repository.
    whole = f"{SCHEME}{name.repository}@{name.revision}"
    key = f"rounds/{round_name}/revisions/{hashlib.sha256(f'{kind} {whole}'.encode()).hexdigest()[:16]}.json"
    recorded = _read(store, key)
    if recorded is None:
        content = {"kind": kind, "uri": whole, "commit": commit_of(name, kind)}
        store.create(key, json.dumps(content, sort_keys=True).encode())
        # Another program may have been faster: its commit counts.
        recorded = _read(store, key)
    if recorded is None:
        raise ValueError(f"store:{key} was deleted while it was read; start again")
    return name.at(recorded).uri


def is_on_hub(uri: str, kind: HubKind) -> bool:
    """Return whether ``uri`` is a name on the hub; ``hf:`` may also stand before the local folder of a data set."""
    return uri.startswith(SCHEME) and (kind == "model" or not Path(uri.removeprefix(SCHEME)).exists())


def _read(store: Store, key: str) -> str | None:
    """Return the recorded commit, or None. Raises ``ValueError`` when the record has none."""
    try:
        data = store.read(key)
    except KeyError:
        return None
    try:
        return str(json.loads(data)["commit"])
    except (ValueError, KeyError, TypeError):
        raise ValueError(
            f"store:{key} names no commit: was it changed by hand? Delete it to resolve the name again"
        ) from None
