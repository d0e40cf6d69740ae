"""How a connection between two peers starts: who speaks, and over what.

1. Both sides may begin with TLS: a listener that sees 0x16 as the first byte
   answers as a TLS server. That is below this machine; it is told
   `encrypted` when it happened.
2. The side that connected sends a handshake request and then nothing until the
   response has come.
3. The other side answers it, and sends nothing else for `QUIET_SECONDS`: ZeroNet
   nodes miscount what arrives together with a handshake and corrupt a later file.
4. Where the request offered TLS, the connection is not encrypted yet and the
   responder can, the response says `crypt: "tls-rsa"`, and everything after
   the response is TLS; the side that connected is its client.
5. Requests other than a handshake are answered in every state, by a listener
   even before any handshake; a dialler holds its answers until step 3.

The states are the behaviour, so they are an explicit machine: each input
returns the orders that whoever owns the connection has to carry out, in order.
Source: ZeroNet peer protocol, handshake and TLS.
"""

from collections.abc import Sequence
from typing import Protocol

import attrs
from automat import TypeMachineBuilder

from zeromsg.wire.names import TLS_RSA
from zeromsg.wire.peer_messages import Handshake

QUIET_SECONDS = 0.1
"""What passes after a handshake response before the next byte is written."""

HANDSHAKE_SECONDS = 10.0
"""What a peer has for its part of the handshake."""


@attrs.frozen
class SendRequest:
    """Write the handshake request and hold back everything else."""

    handshake: Handshake


@attrs.frozen
class SendResponse:
    """Write the handshake response, alone."""

    req_id: object
    handshake: Handshake


@attrs.frozen
class StartTls:
    """Everything from here on is TLS; as_client for the side that connected."""

    as_client: bool


@attrs.frozen
class Opened:
    """The peer said who it is; what was held back may be written after `quiet` seconds."""

    theirs: Handshake
    quiet: float


@attrs.frozen
class Refused:
    """Close the connection.

    ourselves: the peer has our own ID, so it is us.
    """

    reason: str
    ourselves: bool = False


Order = SendRequest | SendResponse | StartTls | Opened | Refused
Orders = Sequence[Order]


class Inputs(Protocol):
    """What can happen to a connection as far as its handshake is concerned."""

    def connected(self) -> Orders:
        """We opened the connection, and it is there."""

    def accepted(self) -> Orders:
        """Somebody opened a connection to us."""

    def requested(self, req_id: object, theirs: Handshake, encrypted: bool) -> Orders:
        """A handshake request arrived."""

    def responded(self, theirs: Handshake, encrypted: bool) -> Orders:
        """The response to our handshake arrived."""

    def timed_out(self) -> Orders:
        """`HANDSHAKE_SECONDS` have passed."""


@attrs.define
class _Core:
    """Our side of the handshake: what we would say, and whether we can do TLS."""

    ours: Handshake
    can_tls: bool


_builder = TypeMachineBuilder(Inputs, _Core)
_fresh = _builder.state("fresh")
_listening = _builder.state("listening")
_greeting = _builder.state("greeting")
_open = _builder.state("open")


@_fresh.upon(Inputs.connected).to(_greeting)
def _greet(inputs: Inputs, core: _Core) -> Orders:
    return [SendRequest(core.ours)]


@_fresh.upon(Inputs.accepted).to(_listening)
def _listen(inputs: Inputs, core: _Core) -> Orders:
    return []


@_listening.upon(Inputs.requested).to(_open)
def _answer(
    inputs: Inputs, core: _Core, req_id: object, theirs: Handshake, encrypted: bool
) -> Orders:
    if _is_us(core, theirs):
        return [Refused("it is this node itself", ourselves=True)]
    upgrade = core.can_tls and not encrypted and TLS_RSA in theirs.crypt_supported
    crypt = TLS_RSA if encrypted or upgrade else None
    orders: list[Order] = [SendResponse(req_id, attrs.evolve(core.ours, crypt=crypt))]
    if upgrade:
        orders.append(StartTls(as_client=False))
    orders.append(Opened(theirs, QUIET_SECONDS))
    return orders


@_greeting.upon(Inputs.responded).to(_open)
def _settle(inputs: Inputs, core: _Core, theirs: Handshake, encrypted: bool) -> Orders:
    if _is_us(core, theirs):
        return [Refused("it is this node itself", ourselves=True)]
    if theirs.crypt is None or encrypted:
        return [Opened(theirs, 0.0)]
    if theirs.crypt != TLS_RSA or not core.can_tls:
        return [Refused(f"it wants encryption that is not ours: {theirs.crypt}")]
    return [StartTls(as_client=True), Opened(theirs, 0.0)]


@_greeting.upon(Inputs.requested).loop()
def _crossed(
    inputs: Inputs, core: _Core, req_id: object, theirs: Handshake, encrypted: bool
) -> Orders:
    return [Refused("it answers a handshake with another one")]


@_open.upon(Inputs.requested).loop()
def _again(
    inputs: Inputs, core: _Core, req_id: object, theirs: Handshake, encrypted: bool
) -> Orders:
    return [Refused("a second handshake")]


@_listening.upon(Inputs.responded).loop()
def _unasked(inputs: Inputs, core: _Core, theirs: Handshake, encrypted: bool) -> Orders:
    return [Refused("a handshake response that nobody asked for")]


@_open.upon(Inputs.responded).loop()
def _late(inputs: Inputs, core: _Core, theirs: Handshake, encrypted: bool) -> Orders:
    return [Refused("a second handshake response")]


@_greeting.upon(Inputs.timed_out).loop()
def _silent(inputs: Inputs, core: _Core) -> Orders:
    return [Refused("no answer to the handshake")]


@_listening.upon(Inputs.timed_out).loop()
def _no_greeting(inputs: Inputs, core: _Core) -> Orders:
    return [Refused("no handshake")]


@_open.upon(Inputs.timed_out).loop()
def _in_time(inputs: Inputs, core: _Core) -> Orders:
    return []


def _is_us(core: _Core, theirs: Handshake) -> bool:
    # Onion connections say "" so that they cannot be linked; it identifies nobody.
    return bool(theirs.peer_id) and theirs.peer_id == core.ours.peer_id


_build = _builder.build()


def handshake_machine(ours: Handshake, can_tls: bool) -> Inputs:
    """A machine for one connection.

    ours: what this node says of itself, `crypt` left None.
    can_tls: whether this connection may be encrypted.
    """
    return _build(_Core(ours, can_tls))
