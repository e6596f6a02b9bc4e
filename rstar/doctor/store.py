"""Checks of a store: reached, written to, conditional writes, room, and the clock of an object store.

The probe writes small objects under a name of its own and deletes them. A folder that does not exist yet is not made:
the nearest folder above it is checked.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

from rstar.doctor.finding import GIB, Check, Finding, check, size
from rstar.store.folder_store import FolderStore
from rstar.store.open import open_store
from rstar.store.store import Store, StoreError

STORE_SECONDS: Final = 100.0
"""A server that does not answer is given up by the client after 75 s."""

SKEW_SECONDS: Final = 300.0
"""Object stores refuse requests whose clock differs by 15 minutes; a third of it is a warning."""

REFUSED_SECONDS: Final = 900.0


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """``opened`` and ``written``: why not, '' if so. ``conditional``: a second create leaves the first object.

    ``left``: why the probe could not be deleted; ``free``: bytes, None for a bucket; ``skew``: seconds by which the
    server's clock is ahead, None where unknown; ``missing``: the folder does not exist yet.
    """

    uri: str
    opened: str = ""
    written: str = ""
    conditional: bool = True
    left: str = ""
    free: int | None = None
    skew: float | None = None
    missing: bool = False


def store_check(uri: str) -> Check:
    """Return the check of the store at ``uri``."""
    return check("store", lambda: store_facts(uri), judge_store, STORE_SECONDS)


def judge_store(facts: StoreFacts) -> list[Finding]:
    """Return one finding per property. Pure."""
    if facts.opened:
        return [Finding("store", "failed", facts.opened, "correct --store, or what the sentence names")]
    place = f"{facts.uri} (it will be made)" if facts.missing else facts.uri
    if facts.written:
        return [Finding("store", "failed", facts.written, "give a store with room in which this user may write")]
    findings = [Finding("store", "ok", f"{place} can be read and written")]
    if facts.left:
        findings = [
            Finding("store", "warning", f"the probe stayed: {facts.left}", "allow deletes: rounds remove resume points")
        ]
    if not facts.conditional:
        text = "a second conditional write replaced the first object"
        remedy = "use a server with If-None-Match: without it two processes may fix different commits of a hub model"
        findings.append(Finding("store: conditional writes", "warning", text, remedy))
    else:
        findings.append(Finding("store: conditional writes", "ok", "a conditional write keeps the first object"))
    if facts.free is not None:
        text = f"{size(facts.free)} are free"
        few = facts.free < GIB
        remedy = "free some space: 'rstar plan' estimates what rounds need" if few else ""
        findings.append(Finding("store: room", "warning" if few else "ok", text, remedy))
    if facts.skew is not None:
        findings.append(_judge_clock(facts.skew))
    return findings


def _judge_clock(skew: float) -> Finding:
    name, text = "store: clock", f"the server's clock is {abs(skew):.0f} s {'ahead' if skew >= 0 else 'behind'}"
    if abs(skew) > REFUSED_SECONDS:
        return Finding(name, "failed", text, "set this machine's clock (NTP): signed requests are refused")
    if abs(skew) > SKEW_SECONDS:
        return Finding(name, "warning", text, "set this machine's clock (NTP)")
    return Finding(name, "ok", text)


def store_facts(uri: str) -> StoreFacts:
    """Open the store and write a probe."""
    try:
        store = open_store(uri)
    except (ValueError, StoreError) as error:
        return StoreFacts(uri, opened=str(error))
    if isinstance(store, FolderStore):
        return folder_store_facts(uri, store.folder)
    return replace(probed_store(store), skew=clock_skew(uri))


def probed_store(store: Store) -> StoreFacts:
    """Write a probe to a store that is open."""
    written, conditional, left = probe(store, f"rstar-doctor-{uuid.uuid4().hex}/probe")
    return StoreFacts(store.uri, "", written, conditional, left)


def folder_store_facts(uri: str, folder: Path) -> StoreFacts:
    """Write a probe below ``folder``, or where it does not exist below the nearest folder above it."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir():
        return StoreFacts(uri, opened=f"{existing} is a file, so {uri} cannot be a folder")
    # A store deletes the folders that its last object leaves empty: the probe must not delete an empty store.
    keep = existing / f".rstar-doctor-{uuid.uuid4().hex}"
    try:
        keep.touch()
    except OSError as error:
        return StoreFacts(uri, written=f"{existing}: no file can be made: {error.strerror}", missing=folder != existing)
    try:
        written, conditional, left = probe(FolderStore(existing), f"rstar-doctor-{uuid.uuid4().hex}/probe")
    finally:
        with suppress(OSError):
            keep.unlink()
    return StoreFacts(
        uri, "", written, conditional, left, free=shutil.disk_usage(existing).free, missing=folder != existing
    )


def probe(store: Store, key: str) -> tuple[str, bool, str]:
    """Write, read, create twice and delete. Return why it cannot be written, whether creates are conditional, and why it stayed."""
    data = os.urandom(4096)
    try:
        try:
            store.write(key, data)
            if store.read(key) != data:
                return f"{store.uri}: an object came back with other content", True, ""
            first, second = (store.create(f"{key}-once", text) for text in (b"first", b"second"))
            conditional = first and not second and store.read(f"{key}-once") == b"first"
        except (StoreError, OSError, KeyError) as error:
            return f"{store.uri} cannot be written: {error}", True, ""
    finally:
        left = ""
        for name in (key, f"{key}-once"):
            try:
                store.delete(name)
            except (StoreError, OSError) as error:
                left = str(error)
    return "", conditional, left


def clock_skew(uri: str) -> float | None:
    """Return by how many seconds the clock of a bucket's server is ahead; None where it does not say."""
    from urllib3 import PoolManager, Retry, Timeout

    from rstar.store.s3_access import endpoint_of

    try:
        http = PoolManager(timeout=Timeout(10), retries=Retry(total=0), ca_certs=os.environ.get("SSL_CERT_FILE"))
        answer = http.request("HEAD", endpoint_of(uri, os.environ).geturl(), redirect=False)
        return parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time()
    except Exception:  # the store itself was reached: its clock is a remark only
        return None
