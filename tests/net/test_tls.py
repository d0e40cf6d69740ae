"""Certificates, and TLS between two ends in memory."""

import datetime
import os
import stat

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from OpenSSL import SSL
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.protocols.tls import TLSMemoryBIOFactory

from zeromsg.net.tls import FIRST_BYTE, load_certificate, tls_options

NOW = datetime.datetime(2026, 5, 1, tzinfo=datetime.UTC)


def certificate_of(pem):
    return x509.load_pem_x509_certificate(pem)


# The certificate


def test_a_certificate_is_made_once_and_kept_private(tmp_path):
    path = tmp_path / "peer-tls.pem"
    old = os.umask(0)
    try:
        made = load_certificate(path, NOW)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() == made
    assert load_certificate(path, NOW + datetime.timedelta(days=400)) == made


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
    other = load_certificate(tmp_path / "other.pem", NOW)
    assert certificate_of(other).public_key() != certificate_of(pem).public_key()
    assert certificate_of(other).serial_number != certificate_of(pem).serial_number


# Two ends


def context(**wanted):
    """A client as other software has it."""
    made = SSL.Context(SSL.TLS_METHOD)
    made.set_verify(SSL.VERIFY_NONE, lambda *arguments: True)
    if "alpn" in wanted:
        made.set_alpn_protos(wanted["alpn"])
    if "version" in wanted:
        made.set_min_proto_version(wanted["version"])
        made.set_max_proto_version(wanted["version"])
    if "ciphers" in wanted:
        made.set_cipher_list(wanted["ciphers"])
    return made


def shake(client, server, rounds=10):
    """Hands two connections' bytes to each other until both are done; raises SSL.Error."""
    done = set()
    for _ in range(rounds):
        for one, other in ((client, server), (server, client)):
            if one not in done:
                try:
                    one.do_handshake()
                    done.add(one)
                except SSL.WantReadError:
                    pass
            try:
                other.bio_write(one.bio_read(65536))
            except SSL.WantReadError:
                pass
        if len(done) == 2:
            return
    raise AssertionError("the handshake does not end")


def ends(pem, **wanted):
    client = SSL.Connection(context(**wanted))
    server = SSL.Connection(tls_options(pem).getContext())
    client.set_connect_state()
    server.set_accept_state()
    return client, server


def test_a_connection_begins_with_the_byte_that_is_looked_for(pem):
    client, _ = ends(pem)
    with pytest.raises(SSL.WantReadError):
        client.do_handshake()
    assert client.bio_read(1)[0] == FIRST_BYTE


def test_an_offer_of_protocols_does_not_break_the_handshake(pem):
    """ZeroNet nodes offer these, and nobody checks the answer."""
    client, server = ends(pem, alpn=[b"h2", b"http/1.1"])
    shake(client, server)
    assert client.get_alpn_proto_negotiated() == b"h2"


def test_no_offer_is_fine_too(pem):
    client, server = ends(pem)
    shake(client, server)
    assert client.get_alpn_proto_negotiated() == b""


@pytest.mark.parametrize("name", [b"python.org", b"amazon.com"])
def test_any_name_may_be_asked_for(pem, name):
    client, server = ends(pem)
    client.set_tlsext_host_name(name)
    shake(client, server)


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_versions(pem, version):
    client, server = ends(pem, version=version)
    shake(client, server)
    assert client.get_protocol_version() == version


def test_old_versions_are_refused(pem):
    client, server = ends(pem, version=SSL.TLS1_1_VERSION)
    with pytest.raises(SSL.Error):
        shake(client, server)


@pytest.mark.parametrize("cipher", ["ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-RSA-AES128-GCM-SHA256"])
def test_the_suites_of_zeronet_nodes(pem, cipher):
    client, server = ends(pem, version=SSL.TLS1_2_VERSION, ciphers=cipher.encode())
    shake(client, server)
    assert client.get_cipher_name() == cipher


@pytest.mark.parametrize("alpn", [[b"h2", b"http/1.1"], None])
def test_a_twisted_client_of_ours_and_a_server_of_anybodys(pem, tmp_path, alpn):
    other = load_certificate(tmp_path / "other.pem", NOW)
    server_context = tls_options(other).getContext()
    if alpn is None:
        plain = SSL.Context(SSL.TLS_METHOD)
        key_and_certificate = tmp_path / "other.pem"
        plain.use_privatekey_file(str(key_and_certificate))
        plain.use_certificate_file(str(key_and_certificate))
        server_context = plain
    client = SSL.Connection(tls_options(pem).getContext())
    server = SSL.Connection(server_context)
    client.set_connect_state()
    server.set_accept_state()
    shake(client, server)
    # Nobody's certificate is verified: encryption hides from onlookers, no more.
    assert client.get_peer_certificate() is not None


def test_one_set_of_options_serves_many_connections_of_both_kinds(pem):
    """As twisted's own layer makes them, with data both ways."""
    options = tls_options(pem)
    assert isinstance(options, CertificateOptions)
    for _ in range(3):
        near, far = _Talker(b"from the client"), _Talker(b"from the server")
        client = TLSMemoryBIOFactory(options, True, Factory.forProtocol(lambda near=near: near))
        server = TLSMemoryBIOFactory(options, False, Factory.forProtocol(lambda far=far: far))
        _talk(client.buildProtocol(None), server.buildProtocol(None))
        assert (near.heard, far.heard) == (b"from the server", b"from the client")


class _Talker(Protocol):
    def __init__(self, word):
        self.word = word
        self.heard = b""

    def connectionMade(self):
        self.transport.write(self.word)

    def dataReceived(self, data):
        self.heard += data


class _Bytes:
    """A transport that keeps what is written."""

    def __init__(self):
        self.data = b""

    def write(self, data):
        self.data += data

    def loseConnection(self):
        raise AssertionError("the connection was closed")

    def registerProducer(self, producer, streaming):
        """Nothing is ever full."""

    def unregisterProducer(self):
        """See registerProducer."""


def _talk(client, server):
    wires = {client: _Bytes(), server: _Bytes()}
    for protocol, wire in wires.items():
        protocol.makeConnection(wire)
    for _ in range(10):
        for one, other in ((client, server), (server, client)):
            data, wires[one].data = wires[one].data, b""
            if data:
                other.dataReceived(data)
