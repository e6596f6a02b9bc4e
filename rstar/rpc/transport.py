"""The settings of every connection, of servers and of clients.

They are constants: no deployment needs others, and a client and a server with different keepalive times or message
sizes fail with errors that are hard to understand.
"""

from __future__ import annotations

from typing import Final

MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024
"""Largest message. A finished tree takes about 40 bytes per node and its texts."""

MAX_CONNECTION_AGE_SECONDS: Final = 300
"""After this the server asks the client to reconnect, so that new servers get load too."""

MAX_CALL_SECONDS: Final = 86_400
"""Longest call: for this long, a connection that has reached its age keeps its calls."""

_KEEPALIVE: Final = (
    # A peer whose node lost power, or whose network drops packets, is noticed after 25 s at most.
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Without this, gRPC waits a minute for the answer to a ping, whatever the keepalive times are.
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
    # Allows the pings of our clients; with the default the server would answer with too_many_pings.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.max_connection_age_ms", MAX_CONNECTION_AGE_SECONDS * 1000),
    ("grpc.max_connection_age_grace_ms", MAX_CALL_SECONDS * 1000),
    # Two servers on one port must be an error; otherwise either of them would get a connection at random.
    ("grpc.so_reuseport", 0),
)

CLIENT_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    *_KEEPALIVE,
    *_SIZES,
    # The default backs off up to two minutes, in which a restarted server would get no calls.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Services are reached directly; a proxy in the environment is meant for hosts outside.
    ("grpc.enable_http_proxy", 0),
    # Retries are decided in calls.py, executing.py and search_client.py, which can choose another server.
    ("grpc.enable_retries", 0),
)
