"""Routers on loopback that speak NAT-PMP and UPnP, asked over real sockets."""

import re
import socket
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import pytest_twisted

from zeromsg.net.port_mapping import Mapped, NatPmp
from zeromsg.net.upnp import Upnp

pytestmark = pytest.mark.integration

LOOPBACK = "127.0.0.1"
SSDP = ("239.255.255.250", 1900)
SERVICE = "urn:schemas-upnp-org:service:WANIPConnection:1"

DEVICE = f"""<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0"><device>
<deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><deviceList><device>
<deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType><deviceList><device>
<deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType><serviceList><service>
<serviceType>{SERVICE}</serviceType><controlURL>/control</controlURL>
<eventSubURL>/event</eventSubURL><SCPDURL>/scpd.xml</SCPDURL>
</service></serviceList></device></deviceList></device></deviceList></device></root>"""


class _Pages(BaseHTTPRequestHandler):
    """The router's description, and its one service."""

    server: "_Router"

    def log_message(self, *args: Any) -> None:
        """Tests are quiet."""

    def do_GET(self) -> None:
        self._say(DEVICE)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        action = self.headers["SOAPAction"].strip('"').partition("#")[2]
        values = dict(re.findall(r"<(New\w+)[^>]*>([^<]*)</", body))
        result = {
            "GetStatusInfo": "<NewConnectionStatus>Connected</NewConnectionStatus>",
            "GetExternalIPAddress": "<NewExternalIPAddress>203.0.113.7</NewExternalIPAddress>",
        }.get(action, "")
        if action in ("AddPortMapping", "DeletePortMapping"):
            self.server.asked.append((action, values))
        self._say(
            '<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/">'
            f'<s:Body><u:{action}Response xmlns:u="{SERVICE}">{result}</u:{action}Response>'
            "</s:Body></s:Envelope>"
        )

    def _say(self, text: str) -> None:
        data = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class _Router(HTTPServer):
    """asked: what was mapped and taken back."""

    def __init__(self) -> None:
        super().__init__((LOOPBACK, 0), _Pages)
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.search = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.search.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.search.bind(("", SSDP[1]))
        group = socket.inet_aton(SSDP[0]) + socket.inet_aton(LOOPBACK)
        self.search.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)

    def answer_searches(self) -> None:
        location = f"http://{LOOPBACK}:{self.server_port}/device.xml"
        kind = "urn:schemas-upnp-org:device:InternetGatewayDevice:1"
        answer = (
            f"HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nST: {kind}\r\n"
            f"USN: uuid:1::{kind}\r\nEXT:\r\nLOCATION: {location}\r\n\r\n"
        )
        while True:
            try:
                data, asker = self.search.recvfrom(2048)
            except OSError:
                return
            if not data:
                return
            self.search.sendto(answer.encode(), asker)


@pytest.fixture
def router() -> Iterator[_Router]:
    made = _Router()
    threads = [
        threading.Thread(target=target, daemon=True)
        for target in (made.serve_forever, made.answer_searches)
    ]
    for thread in threads:
        thread.start()
    yield made
    made.shutdown()
    made.server_close()
    # An empty datagram ends the search; closing would leave it waiting.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
        last.sendto(b"", (LOOPBACK, SSDP[1]))
    for thread in threads:
        thread.join(5)
    made.search.close()


@pytest_twisted.ensureDeferred
async def test_upnp(router: _Router) -> None:
    from twisted.internet import reactor

    upnp = Upnp(reactor, LOOPBACK)
    assert await upnp.map(26552, 3600) == Mapped(26552, 3600)
    assert await upnp.map(26552, 0) == Mapped(0, 0)
    (add, added), (delete, deleted) = router.asked
    assert (add, delete) == ("AddPortMapping", "DeletePortMapping")
    assert added["NewExternalPort"] == added["NewInternalPort"] == "26552"
    assert added["NewProtocol"] == deleted["NewProtocol"] == "TCP"
    assert added["NewInternalClient"] == LOOPBACK
    assert added["NewLeaseDuration"] == "3600"
    assert deleted["NewExternalPort"] == "26552"


@pytest.fixture
def nat_pmp() -> Iterator[tuple[int, list[bytes]]]:
    """A router that passes over the first request, and its port."""
    asked: list[bytes] = []
    listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listening.bind((LOOPBACK, 0))

    def run() -> None:
        while True:
            data, asker = listening.recvfrom(64)
            if not data:
                return
            asked.append(data)
            _, _, _, inner, outer, seconds = struct.unpack("!BBHHHI", data)
            if len(asked) > 1:
                answer = struct.pack("!BBHIHHI", 0, 130, 0, 1, inner, outer + 1, seconds)
                listening.sendto(answer, asker)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    port = listening.getsockname()[1]
    yield port, asked
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
        last.sendto(b"", (LOOPBACK, port))
    thread.join(5)
    listening.close()


@pytest_twisted.ensureDeferred
async def test_nat_pmp(nat_pmp: tuple[int, list[bytes]]) -> None:
    from twisted.internet import reactor

    port, asked = nat_pmp
    way = NatPmp(reactor, lambda: LOOPBACK, port)
    assert await way.map(26552, 3600) == Mapped(26553, 3600)
    assert len(asked) == 2 and asked[0] == asked[1]
