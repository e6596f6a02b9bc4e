"""API keys: read from a file or the environment, kept as hashes, compared in constant time.

A line of the file is ``NAME KEY [atOnce=N] [requestsPerMinute=N] [tokensPerMinute=N]``; the limits that a line does not
name are those of the options. ``#`` begins a comment. The file is read again when it changes, as a mounted Secret does.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import structlog

from rstar.rounds.validation_errors import nearest
from rstar_openai.limits import KeyUse, Limits

LEAST_CHARACTERS: Final = 16
"""Shorter keys can be guessed."""

_FIELDS: Final = {"atOnce": "at_once", "requestsPerMinute": "requests", "tokensPerMinute": "tokens"}


@dataclass(frozen=True, slots=True)
class Key:
    """A key: its name for logs and metrics, the SHA-256 digest of its text, and its limits."""

    name: str
    digest: bytes
    limits: Limits


def digest(text: str) -> bytes:
    """Return the SHA-256 digest of a key."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def read_keys(text: str, default: Limits, source: str) -> tuple[Key, ...]:
    """Read the lines of a file of keys. Raises ``ValueError`` with the line's number, never with the key."""
    keys: dict[str, Key] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        where = f"{source}: line {number}"
        if len(words) < 2:
            raise ValueError(f"{where}: write NAME KEY, then limits such as atOnce=2")
        name, secret, *limits = words
        if name in keys:
            raise ValueError(f"{where}: the name {name} is used twice; give each key its own")
        if len(secret) < LEAST_CHARACTERS:
            raise ValueError(f"{where}: the key has fewer than {LEAST_CHARACTERS} characters; make a longer one")
        keys[name] = Key(name, digest(secret), replace(default, **_limits(limits, where)))
    if not keys:
        raise ValueError(f"{source} has no key; write a line NAME KEY")
    if len({key.digest for key in keys.values()}) < len(keys):
        raise ValueError(f"{source}: two names have the same key; give each its own")
    return tuple(keys.values())


def _limits(words: Sequence[str], where: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for word in words:
        field, _, value = word.partition("=")
        if field not in _FIELDS:
            raise ValueError(f"{where}: unknown limit {field!r}{nearest(field, _FIELDS)}")
        if not (value.isascii() and value.isdecimal() and int(value[:10]) >= 1):
            raise ValueError(f"{where}: {field} must be a whole number of at least 1")
        found[_FIELDS[field]] = int(value)
    return found


def find(keys: Sequence[Key], text: str) -> Key | None:
    """Return the key with this text. Every key is compared, each in constant time."""
    given = digest(text)
    found: Key | None = None
    for key in keys:
        if hmac.compare_digest(key.digest, given):
            found = key
    return found


class KeyRing:
    """The keys that are valid now and their use. ``file`` None: only the key ``fixed``; neither: everybody may call."""

    def __init__(self, file: Path | None, fixed: str | None, default: Limits) -> None:
        self._file = file
        self._default = default
        self._fixed = (Key("default", digest(fixed), default),) if fixed else ()
        self._everybody = Key("anonymous", b"", default)
        self._version: tuple[int, int] | None = None
        self._keys: tuple[Key, ...] = self._fixed
        self._use: dict[str, KeyUse] = {}
        if file is not None:
            self._read(file)

    @property
    def required(self) -> bool:
        """Whether a request needs a key."""
        return bool(self._keys)

    def key_of(self, headers: Mapping[str, str]) -> Key | None:
        """Return the key of a request by its header ``Authorization: Bearer KEY``; None: it has no valid one."""
        self._read_again()
        if not self._keys:
            return self._everybody
        scheme, _, text = headers.get("Authorization", "").partition(" ")
        return find(self._keys, text.strip()) if scheme.lower() == "bearer" and text.strip() else None

    def use_of(self, key: Key, now: float) -> KeyUse:
        """Return the use of a key so far; it lasts as long as the process."""
        if key.name not in self._use:
            self._use[key.name] = KeyUse(key.limits, now)
        return self._use[key.name]

    def _read(self, file: Path) -> None:
        status = file.stat()
        self._version = (status.st_mtime_ns, status.st_ino)
        keys = (*self._fixed, *read_keys(file.read_text(), self._default, str(file)))
        if len({key.name for key in keys}) < len(keys):
            raise ValueError(f"{file}: the name default belongs to the key of --api-key-env; choose another")
        before = {key.name: key for key in self._keys}
        # New limits begin with a full bucket.
        changed = {key.name for key in keys if key.name in before and before[key.name].limits != key.limits}
        self._use = {name: use for name, use in self._use.items() if name not in changed}
        self._keys = keys

    def _read_again(self) -> None:
        """Read a file that changed; a file that cannot be used leaves the keys as they are, with a line in the log."""
        if self._file is None:
            return
        try:
            status = self._file.stat()
            if (status.st_mtime_ns, status.st_ino) != self._version:
                self._read(self._file)
                structlog.get_logger().info("keys read", keys=len(self._keys))
        except (OSError, ValueError) as error:
            structlog.get_logger().warning("keys not read", reason=str(error))
