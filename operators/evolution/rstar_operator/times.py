"""Kubernetes' times (RFC 3339, whole seconds, UTC) and Python's. It refuses naive times."""

from __future__ import annotations

from datetime import UTC, datetime


def parse_time(text: str) -> datetime:
    """Return a timezone-aware time. Raises ``ValueError`` for another format."""
    return datetime.fromisoformat(text).astimezone(UTC)


def format_time(time: datetime) -> str:
    """Return the time as the API server writes it, cut to seconds."""
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
