"""A Tor network of one's own on loopback: a directory authority, relays and clients.

    with TorNetwork(folder) as network:
        client = network.clients[0]
        client.control, client.socks        # ports on 127.0.0.1
        network.stop(client)
        network.start(client)

It needs Debian's `tor` (with `tor-gencert`), and reaches nothing beyond
loopback. It stands in about ten seconds; so one network serves a whole session
of tests. Everything it starts ends with it, and by itself within a quarter of a
minute when the tests are killed.

Why it is made so: an onion service needs four routers that are not the client.
The one vote that counts is held once every relay has told the authority of
itself; an authority that votes by the clock misses late ones, and the next
consensus would be an hour away. Clients are ordinary ones, not "testing" ones,
whose introduction points live for seconds.
"""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import attrs

LOOPBACK = "127.0.0.1"
RELAYS = 4
CLIENTS = 2
START_SECONDS = 90.0

_NEVER = 1800
"""Seconds between votes while there is nothing to vote on yet."""

_VOTE = 5
"""The shortest interval that tor takes."""


def tor_is_there() -> bool:
    """Whether the programs are installed."""
    return all(shutil.which(name) for name in ("tor", "tor-gencert"))


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@attrs.define(eq=False)
class TorNode:
    """One tor. orport and dirport are 0 for clients, socks for relays."""

    name: str
    folder: Path
    control: int
    orport: int = 0
    dirport: int = 0
    socks: int = 0
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def cookie(self) -> Path:
        return self.folder / "control_auth_cookie"

    @property
    def torrc(self) -> Path:
        return self.folder / "torrc"


class TorNetwork:
    """The whole of it; a context manager."""

    def __init__(self, folder: Path, clients: int = CLIENTS) -> None:
        self.folder = folder
        ports = iter(free_ports(2 + 2 * RELAYS + 2 * clients + 1))
        self.authority = TorNode("authority", folder / "a", next(ports), next(ports), next(ports))
        self.relays = [
            TorNode(f"relay{number}", folder / f"r{number}", next(ports), next(ports))
            for number in range(RELAYS)
        ]
        self.clients = [
            TorNode(f"client{number}", folder / f"c{number}", next(ports), socks=next(ports))
            for number in range(clients)
        ]
        self._directory = ""
        self._deadline = 0.0

    @property
    def _routers(self) -> list[TorNode]:
        return [self.authority, *self.relays]

    @property
    def client_options(self) -> list[str]:
        """What makes an ordinary client one of this network: lines of a torrc."""
        return [
            self._directory,
            "UseDefaultFallbackDirs 0",
            f"OutboundBindAddress {LOOPBACK}",
            "AddressDisableIPv6 1",
            "ExtendAllowPrivateAddresses 1",
            "DirAllowPrivateAddresses 1",
            "EnforceDistinctSubnets 0",
            "ClientRejectInternalAddresses 0",
            # Ask the authority: a relay may not have the consensus yet.
            "FetchDirInfoEarly 1",
            "LearnCircuitBuildTimeout 0",
            "CircuitBuildTimeout 20",
            "Schedulers Vanilla",
        ]

    # Life.

    def __enter__(self) -> Self:
        try:
            self._up()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        for node in [*self.clients, *self._routers]:
            self.stop(node)

    def stop(self, node: TorNode) -> None:
        """One of them goes away."""
        process, node.process = node.process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def start(self, node: TorNode) -> None:
        """It comes (back), at the same ports."""
        words = ["tor", "--hush", "--defaults-torrc", str(self.folder / "empty"), "-f"]
        with (node.folder / "output").open("ab") as output:
            node.process = subprocess.Popen(
                [*words, str(node.torrc)], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def _up(self) -> None:
        self._deadline = time.monotonic() + START_SECONDS
        for node in [*self._routers, *self.clients]:
            node.folder.mkdir(mode=0o700, parents=True)
        (self.folder / "empty").write_text("")
        self._directory = self._make_authority()
        for node in self._routers:
            node.torrc.write_text("\n".join(self._router_lines(node)) + "\n")
            self.start(node)
        self._vote()
        for node in self.clients:
            lines = [*self._common_lines(node), f"SocksPort {node.socks} ExtendedErrors"]
            node.torrc.write_text("\n".join([*lines, *self.client_options]) + "\n")
            self.start(node)
        for node in self.clients:
            self.wait_ready(node)

    def wait_ready(self, node: TorNode) -> None:
        """Wait until a client has built a circuit."""
        self._deadline = time.monotonic() + START_SECONDS
        self._wait(
            lambda: "PROGRESS=100" in self._said(node, "GETINFO status/bootstrap-phase"), node.name
        )

    def _wait(self, condition: Callable[[], object], what: str) -> None:
        while not condition():
            for node in [*self._routers, *self.clients]:
                if node.process is not None and node.process.poll() is not None:
                    output = (node.folder / "output").read_text(errors="replace")
                    raise AssertionError(f"{node.name} ended: {output[-500:]}")
            if time.monotonic() > self._deadline:
                raise AssertionError(f"the Tor network does not stand: {what}")
            time.sleep(0.1)

    # The authority.

    def _make_authority(self) -> str:
        """Its keys; the line by which others know it."""
        node = self.authority
        keys = node.folder / "keys"
        keys.mkdir(mode=0o700)
        files = ("identity_key", "signing_key", "certificate")
        paths = [str(keys / f"authority_{name}") for name in files]
        options = [
            word for pair in zip("isc", paths, strict=True) for word in (f"-{pair[0]}", pair[1])
        ]
        words = ["tor-gencert", "--create-identity-key", "-m", "12", "--passphrase-fd", "0"]
        address = ["-a", f"{LOOPBACK}:{node.dirport}"]
        _run([*words, *address, *options], b"a network for tests\n")
        certificate = Path(paths[2]).read_text()
        identity = re.search(r"^fingerprint ([0-9A-F]{40})$", certificate, re.MULTILINE)
        empty = str(self.folder / "empty")
        words = ["tor", "--hush", "--list-fingerprint", "--defaults-torrc", empty, "-f", empty]
        words += ["--DataDirectory", str(node.folder), "--Nickname", node.name]
        said = _run([*words, "--ORPort", f"{LOOPBACK}:{node.orport}", "--Address", LOOPBACK])
        router = re.search(r"(?:[0-9A-F]{4} ?){10}", said)
        assert identity and router, said
        return (
            f"DirAuthority {node.name} orport={node.orport} no-v2 v3ident={identity[1]} "
            f"{LOOPBACK}:{node.dirport} {router[0].replace(' ', '')}"
        )

    def _common_lines(self, node: TorNode) -> list[str]:
        return [
            f"Nickname {node.name}",
            f"DataDirectory {node.folder}",
            f"ControlPort {LOOPBACK}:{node.control}",
            "CookieAuthentication 1",
            f"Log notice file {node.folder}/log",
            f"__OwningControllerProcess {os.getpid()}",
        ]

    def _router_lines(self, node: TorNode) -> list[str]:
        lines = [
            *self._common_lines(node),
            self._directory,
            "TestingTorNetwork 1",
            f"ORPort {LOOPBACK}:{node.orport} IPv4Only",
            f"Address {LOOPBACK}",
            f"OutboundBindAddress {LOOPBACK}",
            "SocksPort 0",
            "ExitRelay 0",
            "AssumeReachable 1",
            "AddressDisableIPv6 1",
            "Schedulers Vanilla",
            # Or the one router with a measured bandwidth is taken for every hop.
            "TestingMinTimeToReportBandwidth 1 day",
        ]
        if node is self.authority:
            # Half an interval away from the next vote.
            offset = int(time.time() + _NEVER // 2) % _NEVER
            lines += [
                f"DirPort {LOOPBACK}:{node.dirport} IPv4Only",
                "AuthoritativeDirectory 1",
                "V3AuthoritativeDirectory 1",
                f"TestingV3AuthInitialVotingInterval {_NEVER}",
                f"TestingV3AuthVotingStartOffset {offset}",
                "TestingV3AuthInitialVoteDelay 2",
                "TestingV3AuthInitialDistDelay 2",
                "V3AuthVotingInterval 1 hour",
                "V3AuthVoteDelay 2",
                "V3AuthDistDelay 2",
                "TestingDirAuthVoteGuard *",
                "TestingDirAuthVoteHSDir *",
                "AuthDirVoteStableGuaranteeMinUptime 0",
            ]
        return lines

    def _vote(self) -> None:
        """Have the one vote, now that every router is known."""

        def known() -> bool:
            said = self._said(self.authority, "GETINFO desc/all-recent")
            return said.count("\nrouter ") + said.startswith("router ") >= len(self._routers)

        self._wait(known, "the authority knows all relays")
        offset = (int(time.time()) + 2) % _VOTE
        self._said(
            self.authority,
            f"SETCONF TestingV3AuthInitialVotingInterval={_VOTE} "
            f"TestingV3AuthVotingStartOffset={offset}",
        )
        self._wait(
            lambda: (
                self._said(self.authority, "GETINFO ns/all").count("\nr ") >= len(self._routers)
            ),
            "a consensus",
        )

    # Control ports.

    @staticmethod
    def _said(node: TorNode, command: str) -> str:
        """What a tor answers; "" while it does not."""
        try:
            with socket.create_connection((LOOPBACK, node.control), 5) as connection:
                connection.settimeout(5)
                cookie = node.cookie.read_bytes().hex()
                connection.sendall(f"AUTHENTICATE {cookie}\r\n{command}\r\nQUIT\r\n".encode())
                data = b""
                while chunk := connection.recv(65536):
                    data += chunk
        except OSError:
            return ""
        return data.decode(errors="replace").replace("\r", "")


def _run(words: Sequence[str], given: bytes = b"") -> str:
    done = subprocess.run(words, input=given, capture_output=True, timeout=60, check=False)
    output = (done.stdout + done.stderr).decode(errors="replace")
    if done.returncode:
        raise AssertionError(f"{words[0]} failed: {output[-500:]}")
    return output
