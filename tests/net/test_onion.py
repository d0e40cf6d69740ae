"""Keeping onions up, against a scripted control port in memory."""

import random
from typing import Any

import pytest
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from zeromsg.crypto.onion import OnionKey
from zeromsg.net.guard import Place
from zeromsg.net.onion import COMMAND_SECONDS, Onion, Tor
from zeromsg.policy.onion_upkeep import RECONNECT_MOST, UPLOAD_SECONDS, State
from zeromsg.testing.fake_tor import FakeTor
from zeromsg.testing.transports import MemoryEndpoint, Weather
from zeromsg.wire.values import PeerAddress

KEY = OnionKey.from_seed(bytes(range(32)))
OTHER = OnionKey.from_seed(bytes(32))
HERE, THERE = PeerAddress("127.0.0.1", 1), PeerAddress("127.0.0.1", 9051)


class Stage:
    """A Tor of ours and the fake one, on a clock."""

    def __init__(
        self, fake: FakeTor, password: str = "", keys: Any = None, launched: Any = None
    ) -> None:
        self.clock = Clock()
        self.fake = fake
        self.there = True
        self.places: list[list[Place]] = []
        self.changes = 0
        self.server: Any = None
        endpoint = MemoryEndpoint(
            self.clock, random.Random(1), Weather(), HERE, THERE, lambda target: self._listener()
        )
        self.tor = Tor(
            endpoint=endpoint,
            password=password,
            clock=self.clock,
            rng=random.Random(1),
            ready=lambda places: self.places.append(list(places)),
            changed=self._changed,
            keys_to_others=keys or {},
            launched=launched,
        )

    def _listener(self) -> Any:
        if not self.there:
            return None
        return lambda source: self.server() if self.server else self.fake.control()

    def _changed(self) -> None:
        self.changes += 1

    def serve(self, name: str, key: OnionKey, **more: Any) -> None:
        self.tor.serve(name, Onion(key, 26552, "127.0.0.1:4000", **more))

    def run(self, seconds: float) -> None:
        for _ in range(int(seconds * 20)):
            self.clock.advance(0.05)


def test_onions_are_served_and_reported_once_uploaded() -> None:
    stage = Stage(FakeTor(socks='"127.0.0.1:9050" "unix:/run/tor/socks" "192.0.2.1:9050"'))
    stage.serve("one", KEY)
    stage.serve("two", OTHER)
    stage.tor.start()
    stage.run(5)
    assert stage.tor.connected
    assert stage.tor.state("one") is stage.tor.state("two") is State.REACHABLE
    assert stage.fake.served == {key.onion: "26552,127.0.0.1:4000" for key in (KEY, OTHER)}
    # Unix sockets first; of other machines none.
    assert stage.places == [[Place(path="/run/tor/socks"), Place("127.0.0.1", 9050)]]
    assert stage.tor.status()["onions"][0]["onion"] == f"{KEY.onion}.onion:26552"
    stage.tor.stop()
    stage.run(1)
    assert stage.fake.served == {}


def test_another_onions_upload_is_not_taken_for_ours() -> None:
    fake = FakeTor()
    fake.uploads = False
    stage = Stage(fake)
    stage.serve("one", KEY)
    stage.tor.start()
    stage.run(3)
    fake.controls[0].upload(OTHER.onion)
    stage.run(1)
    assert stage.tor.state("one") is State.UPLOADING
    fake.controls[0].upload(KEY.onion)
    stage.run(1)
    assert stage.tor.state("one") is State.REACHABLE
    stage.tor.stop()


def test_a_descriptor_that_never_uploads_is_put_up_again_with_the_same_key() -> None:
    fake = FakeTor()
    fake.uploads = False
    stage = Stage(fake)
    stage.serve("one", KEY)
    stage.tor.start()
    stage.run(UPLOAD_SECONDS + 10)
    added = [line for line in fake.commands if line.startswith("ADD_ONION")]
    assert len(added) == 2
    assert added[0] == added[1]
    assert f"DEL_ONION {KEY.onion}" in fake.commands
    assert stage.tor.status()["onions"][0]["problem"] == "no directory took it in time"
    stage.tor.stop()


def test_onions_come_back_when_tor_does() -> None:
    stage = Stage(FakeTor())
    stage.serve("one", KEY)
    stage.tor.start()
    stage.run(3)
    stage.there = False
    stage.fake.drop_controls()
    stage.run(1)
    assert not stage.tor.connected
    assert stage.tor.state("one") is State.ABSENT
    assert stage.fake.served == {}
    stage.run(30)
    assert "nothing listens" in stage.tor.problem
    stage.there = True
    stage.run(RECONNECT_MOST * 1.3)
    assert stage.tor.state("one") is State.REACHABLE
    stage.tor.stop()


def test_a_refused_onion_is_tried_again_and_a_collision_cleared() -> None:
    fake = FakeTor()
    fake.refuse = ["512 Bad arguments to ADD_ONION", "550 Onion address collision"]
    stage = Stage(fake)
    stage.serve("one", KEY)
    stage.tor.start()
    stage.run(2)
    assert "512" in stage.tor.status()["onions"][0]["problem"]
    stage.run(15)
    assert f"DEL_ONION {KEY.onion}" in fake.commands
    assert stage.tor.state("one") is State.REACHABLE
    stage.tor.stop()


def test_clients_and_keys_to_others_reach_tor() -> None:
    stage = Stage(FakeTor(), keys={OTHER.onion: "a" * 43 + "="})
    stage.serve("one", KEY, clients=["abc2", "def3"])
    stage.tor.start()
    stage.run(3)
    (added,) = [line for line in stage.fake.commands if line.startswith("ADD_ONION")]
    assert "V3Auth" in added and added.endswith("ClientAuthV3=ABC2 ClientAuthV3=DEF3")
    wanted = f"ONION_CLIENT_AUTH_ADD {OTHER.onion} x25519:{'a' * 43}="
    assert wanted in stage.fake.commands
    stage.tor.stop()


@pytest.mark.parametrize(
    ("password", "problem"),
    [("", "wants a password"), ("wrong", "refuses the password"), ("right", "")],
)
def test_passwords(password: str, problem: str) -> None:
    stage = Stage(FakeTor(auth="HASHEDPASSWORD", password="right"), password)
    stage.tor.start()
    stage.run(2)
    assert stage.tor.connected == (not problem)
    assert problem in stage.tor.problem
    stage.tor.stop()


def test_a_cookie_that_cannot_be_read_is_explained() -> None:
    stage = Stage(FakeTor(auth='COOKIE,SAFECOOKIE COOKIEFILE="/nowhere/cookie"'))
    stage.tor.start()
    stage.run(2)
    assert "cookie" in stage.tor.problem and "debian-tor" in stage.tor.problem
    stage.tor.stop()


def test_a_control_port_that_hangs() -> None:
    fake = FakeTor()
    fake.silent = True
    stage = Stage(fake)
    stage.tor.start()
    stage.run(COMMAND_SECONDS + 0.5)
    assert stage.tor.problem == "Tor does not answer in time"
    fake.silent = False
    stage.run(5)
    assert stage.tor.connected
    stage.tor.stop()


def test_a_tor_that_falls_silent_later_is_left_and_found_again() -> None:
    fake = FakeTor()
    stage = Stage(fake)
    stage.tor.start()
    stage.run(2)
    fake.silent = True
    stage.serve("one", KEY)
    waited = 0.0
    while stage.tor.connected and waited < COMMAND_SECONDS + 5:
        stage.run(0.2)
        waited += 0.2
    assert stage.tor.problem == "Tor does not answer in time"
    fake.silent = False
    stage.run(10)
    assert stage.tor.state("one") is State.REACHABLE
    stage.tor.stop()


def test_a_control_port_that_lies() -> None:
    fake = FakeTor()
    fake.lies = True
    stage = Stage(fake)
    stage.tor.start()
    stage.run(COMMAND_SECONDS + 2)
    assert not stage.tor.connected
    assert "no Tor" in stage.tor.problem or "Tor refused" in stage.tor.problem
    stage.tor.stop()


def test_a_control_port_that_closes_midway() -> None:
    class Closing(Protocol):
        def dataReceived(self, data: bytes) -> None:
            self.transport.loseConnection()

    stage = Stage(FakeTor())
    stage.server = Closing
    stage.tor.start()
    stage.run(2)
    assert "closed" in stage.tor.problem or "disconnected" in stage.tor.problem
    stage.tor.stop()


def test_a_tor_that_serves_another_onion_than_asked() -> None:
    fake = FakeTor()
    fake.refuse = [f"250-ServiceID={OTHER.onion}\r\n250 OK"]
    stage = Stage(fake)
    stage.serve("one", KEY)
    stage.tor.start()
    stage.run(2)
    assert "another onion" in stage.tor.status()["onions"][0]["problem"]
    stage.tor.stop()


def test_a_withdrawn_onion_is_taken_down_and_not_put_up_again() -> None:
    stage = Stage(FakeTor())
    stage.serve("one", KEY)
    stage.serve("two", OTHER)
    stage.tor.start()
    stage.run(3)
    stage.tor.withdraw("one")
    stage.tor.withdraw("one")
    stage.run(2)
    assert set(stage.fake.served) == {OTHER.onion}
    stage.fake.drop_controls()
    stage.run(10)
    assert set(stage.fake.served) == {OTHER.onion}
    stage.tor.stop()


def test_of_a_tor_that_this_node_starts_the_process_says_what_is_wrong() -> None:
    stage = Stage(FakeTor(), launched=lambda: "it is not ready yet")
    stage.there = False
    with capturedLogs() as logged:
        stage.tor.start()
        stage.run(5)
    assert stage.tor.problem == "it is not ready yet"
    # Nobody has to set a ControlPort there, and the process logs what became of it.
    assert logged == []
    stage.there = True
    stage.run(RECONNECT_MOST)
    assert stage.tor.connected
    stage.tor.stop()
