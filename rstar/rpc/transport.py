"""The settings of every connection, for servers and clients alike.

They are constants: nobody tunes them per deployment, and a client and a server that disagree about
keepalive or message size fail in ways that are hard to read.
"""

from __future__ import annotations

from typing import Final

MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024
"""Largest message. A finished tree takes about 40 bytes per node and its texts."""

MAX_CONNECTION_AGE_SECONDS: Final = 300
"""After this the server asks the client to reconnect, so that load also reaches servers that came later."""

MAX_CALL_SECONDS: Final = 86_400
"""Longest call. A connection that has reached its age keeps the calls on it for so long."""

_KEEPALIVE: Final = (
    # A peer whose node lost power, or behind a network that drops packets, is noticed after 25 s at most.
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # gRPC waits for the answer to a ping for a minute otherwise, whatever the keepalive's own time is.
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)
_SIZES: Final = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
)

SERVER_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    *_KEEPALIVE,
    *_SIZES,
    # A client may ping as often as ours does; the default would answer with too_many_pings.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.max_connection_age_ms", MAX_CONNECTION_AGE_SECONDS * 1000),
    ("grpc.max_connection_age_grace_ms", MAX_CALL_SECONDS * 1000),
    # Two servers on one port must be an error, not a lottery.
    ("grpc.so_reuseport", 0),
)

CLIENT_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    *_KEEPALIVE,
    *_SIZES,
    # The default backs off up to two minutes, during which a restarted server would stay unseen.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Services are reached directly; a proxy in the environment is for the world outside.
    ("grpc.enable_http_proxy", 0),
    # Retries are decided in one place (rstar.rpc.calls), where another server can be chosen.
    ("grpc.enable_retries", 0),
)
