"""Certificates, and TLS between two ends in memory."""

import datetime
import os
import stat

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from OpenSSL import SSL
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from zeromsg.errors import CannotStore
from zeromsg.net.tls import FIRST_BYTE, load_certificate, make_certificate, tls_options
from zeromsg.store.private_file import write_private

NOW = datetime.datetime(2026, 5, 1, tzinfo=datetime.UTC)


def certificate_of(pem):
    return x509.load_pem_x509_certificate(pem)


# The certificate


def test_a_certificate_is_made_once_and_kept_private(tmp_path):
    path = tmp_path / "peer-tls.pem"
    old = os.umask(0)
    try:
        made = load_certificate(path, NOW, write_private)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() == made
    assert load_certificate(path, NOW + datetime.timedelta(days=400), write_private) == made


@pytest.mark.parametrize("part", ["nothing", "half", "key only", "text", "sealed key"])
def test_a_damaged_file_is_named_with_what_to_do(tmp_path, part):
    path, pem = tmp_path / "peer-tls.pem", make_certificate(NOW)
    end = pem.index(b"-----BEGIN CERT")
    sealed = serialization.load_pem_private_key(pem, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"x"),
    )
    path.write_bytes(
        {
            "nothing": b"",
            "half": pem[: len(pem) // 2],
            "key only": pem[:end],
            "text": b"certainly no certificate",
            "sealed key": sealed + pem[end:],
        }[part]
    )
    with pytest.raises(CannotStore, match=r"peer-tls.pem: expected .* move it away"):
        load_certificate(path, NOW, write_private)


def test_a_key_that_is_not_the_certificates_is_named_too(tmp_path):
    first, second = make_certificate(NOW), make_certificate(NOW)
    mixed = first[: first.index(b"-----BEGIN CERT")] + second[second.index(b"-----BEGIN CERT") :]
    (tmp_path / "pem").write_bytes(mixed)
    with pytest.raises(CannotStore, match="pem: expected a private key and its certificate"):
        load_certificate(tmp_path / "pem", NOW, write_private)
    with pytest.raises(CannotStore, match="cannot use"):
        load_certificate(tmp_path / "pem" / "below", NOW, write_private)


def test_what_the_certificate_says(pem):
    certificate = certificate_of(pem)
    key = certificate.public_key()
    assert isinstance(key, rsa.RSAPublicKey) and key.key_size == 2048
    assert certificate.signature_hash_algorithm.name == "sha256"
    assert certificate.issuer == certificate.subject
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert lifetime == datetime.timedelta(days=731)


def test_a_nodes_name_stands_nowhere_in_it(pem):
    (name,) = certificate_of(pem).subject
    assert name.value == "localhost"


def test_every_node_has_its_own_key(pem, tmp_path):
    other = load_certificate(tmp_path / "other.pem", NOW, write_private)
    assert certificate_of(other).public_key() != certificate_of(pem).public_key()
    assert certificate_of(other).serial_number != certificate_of(pem).serial_number


# Two ends


class Talker(Protocol):
    """Says a word when the connection is there, and hears what comes."""

    def __init__(self, word):
        self.word = word
        self.heard = b""
        self.ended = None

    def connectionMade(self):
        self.transport.write(self.word)

    def dataReceived(self, data):
        self.heard += data

    def connectionLost(self, reason):
        self.ended = reason


class Ours:
    """One end as Twisted makes it of our options; bytes in and out."""

    def __init__(self, options, client):
        self.talker = Talker(b"a client of ours" if client else b"a server of ours")
        self.clock = Clock()
        wrapped = Factory.forProtocol(lambda: self.talker)
        self.protocol = TLSMemoryBIOFactory(options, client, wrapped, self.clock).buildProtocol(
            None
        )
        self.written = b""
        self.protocol.makeConnection(self)

    # What the layer needs of a transport.

    def write(self, data):
        self.written += data

    def loseConnection(self):
        self.protocol.connectionLost(Failure(ConnectionDone()))

    abortConnection = loseConnection

    def registerProducer(self, producer, streaming):
        """Nothing is ever full."""

    def unregisterProducer(self):
        """See registerProducer."""

    def take(self):
        self.clock.advance(0)
        data, self.written = self.written, b""
        return data

    def give(self, data):
        self.protocol.dataReceived(data)


class Theirs:
    """One end as other software has it."""

    def __init__(self, context, client, name=None):
        self.connection = SSL.Connection(context)
        if client:
            self.connection.set_connect_state()
        else:
            self.connection.set_accept_state()
        if name is not None:
            self.connection.set_tlsext_host_name(name)
        self.done = False
        self.heard = b""
        self._go_on()

    def _go_on(self):
        try:
            if not self.done:
                self.connection.do_handshake()
                self.done = True
                self.connection.send(b"their word")
            while True:
                self.heard += self.connection.recv(65536)
        except SSL.WantReadError:
            pass

    def take(self):
        try:
            return self.connection.bio_read(65536)
        except SSL.WantReadError:
            return b""

    def give(self, data):
        self.connection.bio_write(data)
        self._go_on()


def talk(one, other, rounds=12):
    """Hand bytes back and forth. Raises SSL.Error where the other software gives up."""
    for _ in range(rounds):
        for source, target in ((one, other), (other, one)):
            data = source.take()
            if data:
                target.give(data)


def context(alpn=None, version=None, ciphers=None):
    made = SSL.Context(SSL.TLS_METHOD)
    made.set_verify(SSL.VERIFY_NONE, lambda *arguments: True)
    if alpn is not None:
        made.set_alpn_protos(alpn)
    if version is not None:
        made.set_min_proto_version(version)
        made.set_max_proto_version(version)
    if ciphers is not None:
        made.set_cipher_list(ciphers)
    return made


def client_at_ours(pem, name=None, **wanted):
    """A foreign client that talked to a server of ours."""
    client, server = Theirs(context(**wanted), True, name), Ours(tls_options(pem), False)
    talk(client, server)
    assert client.done
    assert (client.heard, server.talker.heard) == (b"a server of ours", b"their word")
    return client.connection


def test_a_connection_begins_with_the_byte_that_is_looked_for(pem):
    assert Theirs(context(), True).take()[0] == FIRST_BYTE
    assert Ours(tls_options(pem), True).take()[0] == FIRST_BYTE


@pytest.mark.parametrize("offer", [[b"h2", b"http/1.1"], [b"http/1.1"], [b"x", b"h2"]])
def test_an_offer_of_protocols_does_not_break_the_handshake(pem, offer):
    """ZeroNet nodes offer `h2` and `http/1.1`, and nobody checks the answer."""
    client = client_at_ours(pem, alpn=offer)
    assert client.get_alpn_proto_negotiated() in offer


def test_no_offer_is_fine_too(pem):
    assert client_at_ours(pem).get_alpn_proto_negotiated() == b""


@pytest.mark.parametrize("name", [b"python.org", b"amazon.com", b"x"])
def test_any_name_may_be_asked_for(pem, name):
    client_at_ours(pem, name)


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_versions(pem, version):
    assert client_at_ours(pem, version=version).get_protocol_version() == version


def test_old_versions_are_refused(pem):
    with pytest.raises((SSL.Error, AssertionError)):
        client_at_ours(pem, version=SSL.TLS1_1_VERSION)


@pytest.mark.parametrize("cipher", ["ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-RSA-AES128-GCM-SHA256"])
def test_the_suites_of_zeronet_nodes(pem, cipher):
    client = client_at_ours(pem, version=SSL.TLS1_2_VERSION, ciphers=cipher.encode())
    assert client.get_cipher_name() == cipher


def test_a_client_of_ours_and_any_server(pem, tmp_path):
    """Nobody's certificate is verified: encryption hides from onlookers, no more."""
    path = tmp_path / "other.pem"
    load_certificate(path, NOW, write_private)
    foreign = SSL.Context(SSL.TLS_METHOD)
    foreign.use_privatekey_file(str(path))
    foreign.use_certificate_file(str(path))
    server, client = Theirs(foreign, False), Ours(tls_options(pem), True)
    talk(client, server)
    assert server.done
    assert (server.heard, client.talker.heard) == (b"a client of ours", b"their word")


def test_one_set_of_options_serves_many_connections_of_both_kinds(pem):
    options = tls_options(pem)
    for _ in range(3):
        client, server = Ours(options, True), Ours(options, False)
        talk(client, server)
        assert client.talker.heard == b"a server of ours"
        assert server.talker.heard == b"a client of ours"
