"""Images from the project's own Dockerfiles, built with buildah on a base from Debian's packages, pushed to a registry.

No image is pulled from elsewhere. The list of images is that of ``skaffold.yaml``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from rstar_testbed.binaries import cache_folder, locked
from rstar_testbed.errors import TestbedError

ROOT: Final = Path(__file__).parents[3]
REPOSITORY: Final = "rstar"
"""Images are ``HOST:PORT/rstar/NAME:TAG``."""

_SUITE: Final = "bookworm"
_PACKAGES: Final = ("ca-certificates", "python-is-python3", "python3", "python3-pip", "python3-venv")
# What lets the build reach the machine's package mirrors.
_CONFIGURATION: Final = (
    "/etc/pip.conf",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/apt/sources.list.d/debian.sources",
)
_LINES: Final = 15

Report = Callable[[str], None]


@dataclass(frozen=True)
class Image:
    """An image of the project: its name without host, such as ``executor``, and its Dockerfile."""

    name: str
    dockerfile: Path


def images() -> dict[str, Image]:
    """Return the project's images by name, from ``skaffold.yaml``."""
    artifacts = yaml.safe_load((ROOT / "skaffold.yaml").read_text())["build"]["artifacts"]
    found = {each["image"].removeprefix(f"{REPOSITORY}/"): ROOT / each["docker"]["dockerfile"] for each in artifacts}
    return {name: Image(name, dockerfile) for name, dockerfile in found.items()}


class Builder:
    """buildah with a storage of its own in the cache."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._storage = cache_folder() / "images"

    def build(self, names: Iterable[str]) -> None:
        """Build images by name on the base. Raises :class:`TestbedError` with the last lines of a build that failed.

        One process builds at a time. The images that earlier builds had under these names are deleted: each change of a
        lock file leaves 6 GB otherwise.
        """
        known = images()
        with locked(self._storage.with_suffix(".lock")):
            base = self._base()
            for name in names:
                if name not in known:
                    raise TestbedError(f"There is no image {name}: name one of {', '.join(known)}.")
                self._report(f"building the image {name}")
                self._buildah(
                    "bud", "--isolation=chroot", "--layers", f"--build-arg=BASE={base}", f"--tag={_local(name)}",
                    f"--file={known[name].dockerfile}", str(ROOT),
                )  # fmt: skip
            self._buildah("rmi", "--prune")

    def push(self, name: str, registry: str, tag: str) -> str:
        """Push a built image to ``HOST:PORT`` and return its full name with tag and digest."""
        return self._push(_local(name), f"{registry}/{REPOSITORY}/{name}", tag)

    def push_changed(self, name: str, registry: str, tag: str) -> str:
        """Push a built image with one more file, as a later version of it; return its full name with tag and digest."""
        changed = f"{_local(name)}-changed"
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "changed").write_text(tag)
            Path(folder, "Dockerfile").write_text(f"FROM {_local(name)}\nCOPY changed /etc/changed\n")
            self._buildah("bud", "--isolation=chroot", f"--tag={changed}", folder)
        return self._push(changed, f"{registry}/{REPOSITORY}/{name}", tag)

    def _push(self, local: str, target: str, tag: str) -> str:
        with tempfile.NamedTemporaryFile() as digest:
            self._buildah(
                "push", "--tls-verify=false", "--disable-compression", f"--digestfile={digest.name}",
                local, f"docker://{target}:{tag}",
            )  # fmt: skip
            return f"{target}:{tag}@{Path(digest.name).read_text().strip()}"

    def _base(self) -> str:
        """Return the name of the base image; build it first if the cache lacks it."""
        key = hashlib.sha256(repr((2, _SUITE, _PACKAGES, [_content(path) for path in _CONFIGURATION])).encode())
        name = f"localhost/base:{key.hexdigest()[:16]}"
        if self._run("inspect", "--type=image", name).returncode == 0:
            return name
        self._report("building the base of the images from Debian's packages")
        self._storage.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._storage.parent) as scratch:
            root = Path(scratch, "root")
            _check(
                ["debootstrap", "--variant=minbase", f"--include={','.join(_PACKAGES)}", _SUITE, str(root), _mirror()]
            )
            for path in _CONFIGURATION:
                if Path(path).exists():
                    target = root / path.lstrip("/")
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(Path(path).read_bytes())
            (root / "etc/apt/sources.list").unlink(missing_ok=True)
            for path in ("var/cache/apt", "var/lib/apt/lists"):
                shutil.rmtree(root / path, ignore_errors=True)
            (root / "etc/uv").mkdir()
            (root / "etc/uv/uv.toml").write_text("system-certs = true\n")
            _check(["tar", "--create", "--file", f"{scratch}/root.tar", "--directory", str(root), "."])
            Path(scratch, "Dockerfile").write_text("FROM scratch\nADD root.tar /\n")
            self._buildah("bud", f"--tag={name}", scratch)
        return name

    def _buildah(self, *arguments: str) -> str:
        done = self._run(*arguments)
        if done.returncode:
            raise TestbedError(_failure(f"buildah {arguments[0]}", done))
        return done.stdout

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        storage = [
            f"--root={self._storage / 'root'}", f"--runroot={self._storage / 'run'}", "--storage-driver=overlay",
        ]  # fmt: skip
        environment = {**os.environ, "TMPDIR": str(self._storage.parent), "BUILDAH_ISOLATION": "chroot"}
        return subprocess.run(
            ["buildah", *storage, *arguments], capture_output=True, text=True, check=False, env=environment
        )


def chart_options(pushed: Mapping[str, str]) -> list[str]:
    """Return the options by which helm takes these images, given as ``HOST:PORT/rstar/NAME:TAG@DIGEST`` by name."""
    options = []
    for name, full in pushed.items():
        registry, _, rest = full.partition("/")
        options += [f"--set=images.registry={registry}", f"--set=images.{name}.tag={rest.partition(':')[2]}"]
    return options


def report_to_stderr(line: str) -> None:
    """Print a line of progress."""
    print(f"testbed: {line}", file=sys.stderr, flush=True)


def _local(name: str) -> str:
    return f"localhost/{REPOSITORY}/{name}:built"


def _mirror() -> str:
    """Return the machine's own Debian mirror."""
    sources = Path("/etc/apt/sources.list.d/debian.sources")
    if sources.exists():
        for line in sources.read_text().splitlines():
            if line.startswith("URIs:"):
                return line.split()[1]
    return "http://deb.debian.org/debian"


def _content(path: str) -> bytes:
    return Path(path).read_bytes() if Path(path).exists() else b""


def _check(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TestbedError(_failure(command[0], done))


def _failure(what: str, done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return f"{what} failed: " + " | ".join(lines[-_LINES:])
