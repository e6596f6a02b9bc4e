"""Settles asyncio futures and events from another thread: the worker thread of a model answers its callers so."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TypeVar

import structlog

T = TypeVar("T")


def settle_from_thread(future: asyncio.Future[T], result: T | BaseException) -> None:
    """Give ``future`` its result or its exception on its own event loop; nothing happens if it is done or cancelled."""

    def settle() -> None:
        if future.done():
            return
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)

    try:
        future.get_loop().call_soon_threadsafe(settle)
    except RuntimeError:
        structlog.get_logger().info("caller_gone")  # its event loop is closed, so nothing awaits the future


def set_from_thread(event: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
    """Set ``event`` on the event loop that waits for it."""
    with contextlib.suppress(RuntimeError):  # the loop is closed, so nothing waits
        loop.call_soon_threadsafe(event.set)
