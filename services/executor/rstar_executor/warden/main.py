"""Turns a fresh Python process into a warden: it puts up the sandbox layer by layer and reports which are in force.

The process that the executor starts stays outside the process namespace and only waits; its child is the warden. Where a
required layer cannot be put up, the warden ends before it runs a program. Standard library only.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import json
import os
import signal
import sys
from _sitebuiltins import Quitter
from collections.abc import Sequence
from typing import Any

from rstar_executor import sandbox
from rstar_executor.interpreter import zygote
from rstar_executor.interpreter.shared_memory import SharedMemory
from rstar_executor.sandbox import Layer, cgroup, filesystem, identity, kernel, landlock, layer, namespaces, syscalls
from rstar_executor.warden.processes import Processes
from rstar_executor.warden.scratch import Scratch
from rstar_executor.warden.warden import Warden
from rstar_executor.warden.wire import write_frame
from rstar_executor.warden.zygotes import ZygoteLostError, Zygotes

_PR_SET_CHILD_SUBREAPER = 36
_SYSTEM_FOLDERS = (
    *("/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64", "/usr/share/zoneinfo"),
    *("/etc/ld.so.cache", "/etc/localtime"),
)


def main() -> None:
    """Become a warden; ``sys.argv`` has this package's folder and the configuration in JSON (``server.warden_client``)."""
    _, package, text = sys.argv
    sys.path.remove(package)
    configuration = json.loads(text)
    sys.path += configuration["paths"]
    sys.argv = ["program.py"]
    vars(builtins).update(exit=Quitter("exit", "Ctrl-D"), quit=Quitter("quit", "Ctrl-D"))
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    libraries = os.environ.get("LD_LIBRARY_PATH", "")
    os.environ.clear()
    _adjust_oom()
    directory = configuration["directory"]
    group, group_layer = _join_group(configuration)
    refused = namespaces.enter()
    child = os.fork()
    if child:
        _wait_outside(child, group)
    readable = _readable(configuration["paths"], libraries.split(":"))
    if not os.access(os.__file__, os.R_OK):
        sys.exit(
            f"the sandbox cannot read {os.path.dirname(os.__file__)}: make every folder above it searchable for user {os.geteuid()}"
        )
    control = _lowest_number(configuration["control"])
    layers = [group_layer, layer("namespaces", not refused, refused or "process, network, IPC, mount and host name")]
    _serve_inside(control, directory, readable, configuration, not refused, layers)


def _wait_outside(child: int, group: cgroup.Group | None) -> None:
    """Wait for the warden and exit with its code."""
    os.closerange(3, 1024)
    status = os.waitpid(child, 0)[1]
    if group is not None:
        group.remove()
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _serve_inside(
    control: int,
    directory: str,
    readable: Sequence[str],
    configuration: dict[str, Any],
    contained: bool,
    layers: list[Layer],
) -> None:
    scratch = f"{directory}/work"
    os.mkdir(scratch, 0o700)
    was_root = os.geteuid() == 0
    proc, files = _enter_files(directory, readable, scratch, contained)
    layers.append(files)
    layers.append(_identity(readable, files.in_force, [scratch] if files.in_force else [directory, scratch]))
    identity.set_inspectable(True)
    apart = namespaces.own_users(proc) if was_root else contained
    os.chdir(scratch)
    kernel.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    abi = landlock.version()
    layers.append(_landlock_layer(abi))
    layers.append(_seccomp_layer())
    layers.append(layer("limits", True, "per process"))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if reason := sandbox.missing(layers):
        _send_layers(control, layers)
        sys.exit(reason)
    memory = SharedMemory()
    settings = {
        kind: zygote.ZygoteSettings(modules, readable, (scratch,), abi, apart, contained)
        for kind, modules in configuration["modules"].items()
    }
    identity.give_up_privileges()
    zygotes = Zygotes(settings, memory, proc)
    identity.set_inspectable(False)
    # Set last: becoming another user clears it.
    identity.end_with_parent(signal.SIGKILL)
    processes = Processes(proc, contained)
    try:
        zygotes.get("light", processes)
        _send_layers(control, layers)
        Warden(control, memory, zygotes, processes, Scratch(scratch), configuration["snapshot_bytes"]).serve()
    except ZygoteLostError as error:
        write_frame(control, json.dumps(str(error)).encode())
        sys.exit(1)
    except BrokenPipeError:
        pass
    finally:
        processes.end_all()
        Scratch(scratch).clean()


def _enter_files(directory: str, readable: Sequence[str], scratch: str, contained: bool) -> tuple[int, Layer]:
    if contained:
        base = f"{directory}/root"
        os.mkdir(base, 0o755)
        proc = filesystem.enter(base, readable, scratch)
        return proc, layer("files", True, "a read-only view of Python alone, a directory in memory")
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return proc, layer("files", False, "mounts are refused here; only Landlock protects files")


def _identity(readable: Sequence[str], own_view: bool, handed_over: Sequence[str]) -> Layer:
    if os.geteuid() != 0:
        return layer("identity", True, f"user {os.geteuid()}, no capabilities")
    if own_view or _readable_by_nobody(readable):
        with contextlib.suppress(OSError):
            for path in handed_over:
                os.chown(path, identity.NOBODY, identity.NOBODY)
            identity.become_nobody()
            return layer("identity", True, f"user {identity.NOBODY}, no capabilities")
    return layer("identity", True, "user 0 without capabilities")


def _readable_by_nobody(readable: Sequence[str]) -> bool:
    child = os.fork()
    if child == 0:
        try:
            identity.become_nobody()
            os._exit(0 if all(os.access(path, os.R_OK) for path in readable) else 1)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def _landlock_layer(abi: int) -> Layer:
    return layer("landlock", abi > 0, f"version {abi}" if abi else "the kernel has none (5.13 is the first)")


def _seccomp_layer() -> Layer:
    if not kernel.SUPPORTED:
        return layer("seccomp", False, "only x86_64 and aarch64 are supported")
    try:
        ctypes.CDLL(syscalls.LIBRARY)
    except OSError:
        return layer("seccomp", False, f"{syscalls.LIBRARY} is not installed: install your system's libseccomp2")
    return layer("seccomp", True, "a list of allowed system calls")


def _join_group(configuration: dict[str, Any]) -> tuple[cgroup.Group | None, Layer]:
    try:
        group = cgroup.join(configuration["group_bytes"], configuration["group_processes"])
    except OSError as error:
        return None, layer("cgroup", False, f"not delegated here ({error.strerror or error})")
    return group, layer("cgroup", True, str(group.path))


def _adjust_oom() -> None:
    """Have the kernel kill programs before the service when memory runs out."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "r+") as adjustment:
        if int(adjustment.read()) < 500:
            adjustment.seek(0)
            adjustment.write("500")


def _readable(paths: Sequence[str], libraries: Sequence[str]) -> list[str]:
    """Return the files and folders of Python and of the libraries of its extensions, none inside another."""
    wanted = [*_SYSTEM_FOLDERS, *paths, *libraries]
    for prefix in (sys.base_prefix, sys.base_exec_prefix):
        wanted += [f"{prefix}/lib", f"{prefix}/lib64"]
    real = {path for path in wanted if path and os.path.exists(path)}
    return sorted(path for path in real if not any(path.startswith(f"{other}/") for other in real))


def _lowest_number(descriptor: int) -> int:
    """Move the control socket to the lowest free number, not inherited by an executed file."""
    lowest = os.dup(descriptor)
    os.close(descriptor)
    os.set_inheritable(lowest, False)
    return lowest


def _send_layers(control: int, layers: Sequence[Layer]) -> None:
    write_frame(control, json.dumps([tuple(layer) for layer in layers]).encode())
