"""Bodies of requests: refused before they are kept, whoever sends them."""

import pytest
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.web.resource import Resource
from twisted.web.server import Site

from zeromsg.web.bodies import FORM_LIMIT, OPERATION_LIMIT, BoundedRequest

TOKEN = "Authorization: Bearer 00\r\n"
FORM = "Content-Type: application/x-www-form-urlencoded\r\n"
CHUNK = 65536


class Echo(Resource):
    isLeaf = True

    def __init__(self):
        super().__init__()
        self.sizes = []

    def render_POST(self, request):
        self.sizes.append(len(request.content.read()))
        return b"taken"


class Sender:
    """Sends a request to a server of its own, in pieces."""

    def __init__(self):
        self.page = Echo()
        site = Site(self.page, BoundedRequest, reactor=Clock())
        self.transport = StringTransport()
        self.protocol = site.buildProtocol(None)
        self.protocol.makeConnection(self.transport)

    def post(self, headers, body, piece=CHUNK):
        self.protocol.dataReceived(f"POST / HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
        sent = 0
        for start in range(0, len(body), piece):
            if self.transport.disconnecting:
                break
            self.protocol.dataReceived(body[start : start + piece])
            sent += piece
        return self.transport.value().partition(b"\r\n")[0].decode().partition(" ")[2], sent


@pytest.fixture
def sender():
    return Sender()


def length(size):
    return f"Content-Length: {size}\r\n"


@pytest.mark.parametrize(
    ("headers", "most"),
    [
        ("", FORM_LIMIT),
        (FORM, FORM_LIMIT),
        (TOKEN, OPERATION_LIMIT),
        (TOKEN + FORM, FORM_LIMIT),
        (TOKEN + "Content-Type: Multipart/Form-Data; boundary=x\r\n", FORM_LIMIT),
    ],
)
def test_a_body_that_says_it_is_too_large_is_refused_at_once(headers, most):
    sender = Sender()
    refused = ("413 Content Too Large", 0)
    assert sender.post(headers + length(most + 1), b"x" * CHUNK) == refused
    assert sender.page.sizes == []


@pytest.mark.parametrize(("headers", "most"), [("", FORM_LIMIT), (TOKEN, OPERATION_LIMIT)])
def test_the_largest_body_is_taken(sender, headers, most):
    code, _ = sender.post(headers + length(most), bytes(most))
    assert code == "200 OK" and sender.page.sizes == [most]


def test_a_chunked_body_is_refused_when_it_grows_too_large(sender):
    chunks = (b"%x\r\n" % 1000 + bytes(1000) + b"\r\n") * 10_000
    code, sent = sender.post("Transfer-Encoding: chunked\r\n", chunks, 10_000)
    assert code == "413 Content Too Large" and sent < 2 * FORM_LIMIT
    assert sender.page.sizes == []


def test_what_comes_after_the_refusal_is_passed_over(sender):
    body = bytes(FORM_LIMIT * 2)
    code, _ = sender.post(length(len(body)), b"")
    sender.protocol.dataReceived(body)
    sender.protocol.dataReceived(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert code == "413 Content Too Large"
    assert sender.transport.value().count(b"HTTP/1.1") == 1 and sender.page.sizes == []
