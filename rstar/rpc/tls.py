"""Mutual TLS between the services: the certificate of this process, and the credentials of its servers and clients.

Off unless ``RSTAR_TLS_CERT``, ``RSTAR_TLS_KEY`` and ``RSTAR_TLS_CA`` name three files. Then a server refuses clients
without a certificate of that CA, and a client refuses servers without a certificate of that CA for ``SERVER_NAME``.
Clients find servers by the addresses of their pods, which no certificate can list. Therefore all certificates have one
name: it proves that the CA trusts the peer as a part of rStar, and not which service or pod it is.

The files are read again while a process runs, so a renewed certificate needs no restart. Open connections stay; new
ones use the new files. Files that cannot be used are reported in the log, and the earlier ones stay in use.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import structlog

from rstar.rpc.transport import CLIENT_OPTIONS

CERT_VARIABLE: Final = "RSTAR_TLS_CERT"
KEY_VARIABLE: Final = "RSTAR_TLS_KEY"
CA_VARIABLE: Final = "RSTAR_TLS_CA"
_VARIABLES: Final = (CERT_VARIABLE, KEY_VARIABLE, CA_VARIABLE)

SERVER_NAME: Final = "rstar.internal"
"""The DNS name that every certificate has. No public CA issues certificates below ``internal``."""

REREAD_SECONDS: Final = 1.0
"""Least time between two looks at the files, however many clients connect."""

_FLIGHTS: Final = 3
"""How often each side of a handshake writes: twice in TLS 1.3, three times in TLS 1.2."""

_CLIENT_OPTIONS: Final = (*CLIENT_OPTIONS, ("grpc.ssl_target_name_override", SERVER_NAME))


class TlsSettingsError(ValueError):
    """The variables, or the files that they name, cannot be used. Another start would fail in the same way."""


class CertificateError(RuntimeError):
    """The certificate does not verify, such as an expired one. A renewed one may."""


@dataclass(frozen=True, slots=True)
class Pem:
    """The contents of the three files."""

    certificate: bytes
    key: bytes
    ca: bytes


class Certificate:
    """The certificate of this process, as its files are now.

    Raises ``TlsSettingsError`` and ``CertificateError``, with one sentence, when they cannot be used at the start.
    """

    def __init__(self, certificate: Path, key: Path, ca: Path) -> None:
        self._files = (certificate, key, ca)
        self._lock = threading.Lock()
        self._pem = self._read()
        self._read_at = time.monotonic()
        self._complaint = ""

    def latest(self) -> Pem:
        """Return the newest contents that can be used. gRPC also calls it, from threads of its own."""
        with self._lock:
            if time.monotonic() - self._read_at >= REREAD_SECONDS:
                self._reread()
                self._read_at = time.monotonic()
            return self._pem

    def server_credentials(self) -> grpc.ServerCredentials:
        """Return the credentials of a server that requires a client certificate and follows the files."""
        first = self._pem
        # gRPC asks before every handshake; a new configuration is costlier than None, which means no change.
        served = [first]

        def changed() -> grpc.ServerCertificateConfiguration | None:
            latest = self.latest()
            if latest is served[0]:
                return None
            served[0] = latest
            return _configuration(latest)

        # The published types omit None.
        return grpc.dynamic_ssl_server_credentials(_configuration(first), changed, True)  # type: ignore[arg-type]

    def _reread(self) -> None:
        try:
            pem = self._read(unless=self._pem)
            complaint = ""
        except (TlsSettingsError, CertificateError) as error:
            pem, complaint = self._pem, str(error)
        if complaint and complaint != self._complaint:
            structlog.get_logger().warning("certificate kept", reason=complaint)
        self._complaint = complaint
        if pem is not self._pem:
            self._pem = pem
            structlog.get_logger().info("certificate renewed", file=str(self._files[0]))

    def _read(self, unless: Pem | None = None) -> Pem:
        """Return the contents, checked; ``unless`` itself where they are the same."""
        pem = Pem(*map(_contents, self._files, _VARIABLES))
        if pem == unless:
            return unless
        _check(*self._files)
        if pem != Pem(*map(_contents, self._files, _VARIABLES)):
            raise CertificateError(f"{self._files[0]} and its key and CA changed while they were read")
        return pem


def own_certificate(environment: Mapping[str, str] = os.environ) -> Certificate | None:
    """Return the certificate that the variables name, None where they are unset: TLS is off.

    Raises ``TlsSettingsError`` when only some are set, and what ``Certificate`` raises.
    """
    files = [environment.get(variable, "") for variable in _VARIABLES]
    if not any(files):
        return None
    missing = [variable for variable, file in zip(_VARIABLES, files, strict=True) if not file]
    if missing:
        raise TlsSettingsError(
            f"TLS needs all of {', '.join(_VARIABLES)}; unset: {', '.join(missing)}. Set all or none"
        )
    return Certificate(*map(Path, files))


def open_channel(address: str, pem: Pem | None) -> grpc.aio.Channel:
    """Return a channel to ``address``; None: without TLS."""
    if pem is None:
        return grpc.aio.insecure_channel(address, options=CLIENT_OPTIONS)
    credentials = grpc.ssl_channel_credentials(pem.ca, pem.key, pem.certificate)
    return grpc.aio.secure_channel(address, credentials, options=_CLIENT_OPTIONS)


def explain(details: str, *, tls: bool) -> str:
    """Return why a connection failed, as a sentence for people, where gRPC's ``details`` show that TLS is the reason.

    ``tls``: the client has a certificate. Other details are returned as they are. A server that refuses a client closes
    the connection without a reason; gRPC writes the reason to the server's log.
    """
    if "CERTIFICATE_VERIFY_FAILED" in details:
        reason = details.partition("CERTIFICATE_VERIFY_FAILED: ")[2].partition(":")[0]
        return f"the server's certificate does not verify against {CA_VARIABLE}: {reason}"
    if "Hostname Verification" in details:
        return f"the server's certificate does not have the DNS name {SERVER_NAME}"
    if "WRONG_VERSION_NUMBER" in details:
        return f"the server has no TLS, but this client has: set {', '.join(_VARIABLES)} for both or for neither"
    if details.startswith("failed to connect") and "Socket closed" in details:
        if tls:
            return f"the server closed the connection, as for a client certificate of another CA or an expired one ({CERT_VARIABLE}); its log has the reason"
        return f"the server closed the connection, as for a client without TLS: set {', '.join(_VARIABLES)}"
    return details


def _configuration(pem: Pem) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pem.key, pem.certificate)], pem.ca)


def _contents(file: Path, variable: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise TlsSettingsError(f"{file} ({variable}) cannot be read: {error.strerror}") from None


def _check(certificate: Path, key: Path, ca: Path) -> None:
    """Raise an error with one sentence unless the certificate verifies as a server's and as a client's.

    The two sides of a TLS connection are made in memory, both with this certificate, as two pods of a namespace have it.
    """
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.verify_mode = ssl.CERT_REQUIRED
    for side in (server, client):
        # As gRPC does: the CA may be an intermediate one.
        side.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        try:
            side.load_verify_locations(ca)
        except ssl.SSLError:
            raise TlsSettingsError(f"{ca} ({CA_VARIABLE}) has no certificate in PEM format") from None
        try:
            side.load_cert_chain(certificate, key, password=_no_password)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                reason = "they do not belong together"
            else:
                reason = "they must be a certificate and its key without a password, in PEM format"
            raise TlsSettingsError(
                f"{certificate} ({CERT_VARIABLE}) and {key} ({KEY_VARIABLE}) cannot be used: {reason}"
            ) from None
    try:
        _handshake(server, client)
    except ssl.SSLCertVerificationError as error:
        raise CertificateError(
            f"{certificate} ({CERT_VARIABLE}) does not verify: {error.verify_message.rstrip('.')}; it must be valid now, "
            f"signed by {ca} ({CA_VARIABLE}), have the DNS name {SERVER_NAME}, and be for servers and clients"
        ) from None
    except ssl.SSLError as error:
        raise CertificateError(f"{certificate} ({CERT_VARIABLE}) cannot be used for TLS: {error.reason}") from None


def _no_password() -> str:
    # Without this, OpenSSL would ask at the terminal.
    return ""


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """Connect a client to a server in memory. Raises ``ssl.SSLError``."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = (
        client.wrap_bio(to_client, to_server, server_hostname=SERVER_NAME),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(_FLIGHTS):
        for side in sides:
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
