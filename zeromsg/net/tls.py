"""TLS between peers: it hides what is said from onlookers, and proves nothing.

Certificates are made by the nodes themselves and nobody checks them, as among
ZeroNet nodes. Source: ZeroNet peer protocol, TLS.
"""

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from OpenSSL.SSL import Error as TlsError
from twisted.internet.ssl import CertificateOptions, TLSVersion

from zeromsg.errors import CannotStore

FIRST_BYTE = 0x16
"""A TLS connection begins with a handshake record, a plain one never does."""

_DAYS = 730
_NAME = "localhost"


def make_certificate(now: datetime.datetime) -> bytes:
    """A new RSA 2048 key and a self-signed certificate for it, both as PEM in one text."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _NAME)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(_NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ) + certificate.public_bytes(serialization.Encoding.PEM)


def load_certificate(
    path: Path, now: datetime.datetime, write: Callable[[Path, str], None]
) -> bytes:
    """The node's PEM, made and kept (readable by its owner only) on first use.

    write: puts a private file in place in one step (`store.private_file`).
    Raises CannotStore for a file that cannot be used.
    """
    try:
        if not path.exists():
            pem = make_certificate(now)
            write(path, pem.decode("ascii"))
            return pem
        pem = path.read_bytes()
    except OSError as problem:
        raise CannotStore(f"cannot use {path}: {problem.strerror}") from None
    try:
        tls_options(pem).getContext()
    except (ValueError, TypeError, UnsupportedAlgorithm, TlsError):
        raise CannotStore(
            f"{path}: expected a private key and its certificate as PEM, and no passphrase:"
            " move it away and start again, and the node makes a new one, which costs nothing"
        ) from None
    return pem


def tls_options(pem: bytes) -> CertificateOptions:
    """Options for both sides of a connection; no certificate is verified.

    Raises ValueError, TypeError, UnsupportedAlgorithm or OpenSSL's Error for what is no
    key with a certificate.
    """
    # OpenSSL takes these as they are; Twisted's types still ask for its older wrappers.
    key: Any = serialization.load_pem_private_key(pem, password=None)
    certificate: Any = x509.load_pem_x509_certificate(pem)
    return CertificateOptions(
        privateKey=key,
        certificate=certificate,
        raiseMinimumTo=TLSVersion.TLSv1_2,
        # ZeroNet nodes offer these and check nothing; without an answer to the
        # offer, OpenSSL ends the handshake.
        acceptableProtocols=[b"h2", b"http/1.1"],
    )
