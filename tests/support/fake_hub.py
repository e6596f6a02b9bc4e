"""A small server with the part of the Hugging Face hub's API that ``huggingface_hub`` needs to download repositories."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

Files = dict[str, bytes]

LARGE = 10_000
"""Files from this size on are kept outside git, with their sha256 (LFS), as weights are."""


@dataclass
class FakeHub:
    """``url``: its address. ``requests``: method and path of every request since the start."""

    url: str = ""
    commits: dict[tuple[str, str, str], Files] = field(default_factory=dict)
    branches: dict[tuple[str, str, str], str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    broken: dict[str, bytes] = field(default_factory=dict)

    def push(self, kind: str, name: str, files: Files, branch: str = "main") -> str:
        """Make a commit and move the branch to it; ``kind`` is models or datasets."""
        seed = f"{kind} {name} {sorted((path, hashlib.sha256(data).hexdigest()) for path, data in files.items())}"
        commit = hashlib.sha1(seed.encode()).hexdigest()
        self.commits[kind, name, commit] = files
        self.branches[kind, name, branch] = commit
        return commit

    def push_folder(self, kind: str, name: str, folder: Path, branch: str = "main") -> str:
        """Commit the files of a folder."""
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        return self.push(kind, name, files, branch)

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of a request."""
        if found := re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            kind, name, revision = found[1], found[2], unquote(found[3] or "main")
            commit = self._commit(kind, name, revision)
            if commit is None:
                return self._missing(kind, name)
            siblings = [{"rfilename": path} for path in self.commits[kind, name, commit]]
            return _json({"id": name, "sha": commit, "siblings": siblings, "tags": [], "private": False})
        if found := re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)/tree/([^/]+)", path):
            files = self.commits[found[1], found[2], found[3]]
            return _json([_entry(path, data) for path, data in files.items()])
        if found := re.fullmatch(r"/(?:(datasets)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            kind, name, commit, file = found[1] or "models", found[2], found[3], unquote(found[4])
            data = self.commits.get((kind, name, commit), {}).get(file)
            if data is None:
                return 404, {"X-Error-Code": "EntryNotFound"}, b""
            headers = {"X-Repo-Commit": commit, "ETag": f'"{_etag(data)}"', "Accept-Ranges": "bytes"}
            return 200, headers, self.broken.get(file, data)
        return 404, {}, b""

    def _commit(self, kind: str, name: str, revision: str) -> str | None:
        if (kind, name, revision) in self.commits:
            return revision
        return self.branches.get((kind, name, revision))

    def _missing(self, kind: str, name: str) -> tuple[int, dict[str, str], bytes]:
        known = any((kind, name) == key[:2] for key in self.commits)
        return 404, {"X-Error-Code": "RevisionNotFound" if known else "RepoNotFound"}, b""


def _entry(path: str, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": _git_digest(data)}
    if len(data) >= LARGE:
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return entry


def _etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest() if len(data) >= LARGE else _git_digest(data)


def _git_digest(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _json(content: Any) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, json.dumps(content).encode()


@contextmanager
def running_hub() -> Iterator[FakeHub]:
    """Serve a hub without repositories on a free port."""
    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._reply(with_body=True)

        def do_HEAD(self) -> None:
            self._reply(with_body=False)

        def _reply(self, *, with_body: bool) -> None:
            path = urlsplit(self.path).path
            hub.requests.append(f"{self.command} {path}")
            status, headers, body = hub.answer(path)
            if (span := self.headers.get("Range")) and status == 200:
                start = int(span.removeprefix("bytes=").partition("-")[0])
                headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
                status, body = 206, body[start:]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Keep the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def use_hub(url: str, cache: Path, monkeypatch: pytest.MonkeyPatch, *, offline: bool = False) -> None:
    """Point ``huggingface_hub`` at ``url``, in this process and in those that it starts, with an own cache."""
    from huggingface_hub import constants

    monkeypatch.setenv("HF_ENDPOINT", url)
    monkeypatch.setenv("HF_HOME", str(cache))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1" if offline else "0")
    # It has read its environment already.
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
