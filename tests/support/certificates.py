"""Certificates that a test issues: an authority of its own, and files as a Secret of Kubernetes has them."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rstar.rpc.tls import CA_VARIABLE, CERT_VARIABLE, KEY_VARIABLE, SERVER_NAME, Pem

USAGES = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
DAY = timedelta(days=1)


class Authority:
    """A certificate authority."""

    def __init__(self, name: str = "tenant-a") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        certificate = _builder(self._name, self._name, self._key, DAY).add_extension(constraints, critical=True)
        certificate = certificate.add_extension(_usage(signs=True), critical=True)
        self.pem = certificate.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        names: Sequence[str] = (SERVER_NAME,),
        ends: timedelta = DAY,
        usages: Sequence[x509.ObjectIdentifier] = USAGES,
        password: bytes | None = None,
    ) -> Pem:
        """Issue a certificate that ends ``ends`` from now, with this authority as its CA.

        As cert-manager issues the one of the chart: without a subject, which makes the extension with the names critical.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(x509.Name([]), self._name, key, ends)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        protection = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        return Pem(
            certificate.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection),
            self.pem,
        )


def write(folder: Path, pem: Pem) -> dict[str, str]:
    """Write the files, all at once as kubelet does, and return the variables that name them."""
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f"data-{len(list(folder.iterdir()))}"
    fresh.mkdir()
    names = {CERT_VARIABLE: "tls.crt", KEY_VARIABLE: "tls.key", CA_VARIABLE: "ca.crt"}
    for name, content in zip(names.values(), (pem.certificate, pem.key, pem.ca), strict=True):
        (fresh / name).write_bytes(content)
    link = folder / "next"
    link.symlink_to(fresh.name)
    link.rename(folder / "now")
    return {variable: str(folder / "now" / name) for variable, name in names.items()}


def secret_options(folder: Path, pem: Pem) -> list[str]:
    """Write the files and return the options of ``kubectl create secret generic`` for them."""
    return [f"--from-file={Path(file).name}={file}" for file in write(folder, pem).values()]


def shown(address: str) -> bytes:
    """Return the server's certificate in PEM format, read over a new connection without a client certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port))) as connection, context.wrap_socket(connection) as secured:
        return ssl.DER_cert_to_PEM_cert(secured.getpeercert(binary_form=True) or b"").encode()


def _usage(*, signs: bool) -> x509.KeyUsage:
    others = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False)
    rest = dict.fromkeys(("crl_sign", "encipher_only", "decipher_only"), False)
    return x509.KeyUsage(digital_signature=True, key_cert_sign=signs, **others, **rest)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, ends: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 2 * DAY)
        .not_valid_after(now + ends)
    )
