"""A recorded session of CryptMessage commands, played against our nodes.

The person's keys are others here and ciphertexts are never twice the same: what
was recorded of them is learnt, with its form, and put into later calls.
"""

import json
from pathlib import Path

from zeromsg.crypto.keys import address_of
from zeromsg.net.client_protocol import ClientFactory, ClientLimits
from zeromsg.testing.websocket import WebSocketClient

RECORDING = json.loads((Path(__file__).parents[1] / "vectors" / "ui" / "crypt_ui.json").read_text())
KEY = RECORDING["key"]
LIMITS = ClientLimits(message=10 * 1024 * 1024, unsent=4 * 1024 * 1024, clients=100)

LEARNT = ("userPublickey", "eciesEncrypt", "aesEncrypt", "ecdsaSign")
"""Commands whose results differ each time, or for each person."""

DIFFERENT = {
    # There an `error` event, without an answer.
    3: {"error": "invalid: index must be a whole number from 0 to 1000"},
    13: {"error": "invalid: publickey is no public key: "},
    18: {"error": "invalid: privatekey is no private key"},
    19: {"error": "invalid: publickey must be in hex digits"},
    26: {"error": "invalid: aesEncrypt takes at most 2 parameters"},
    28: {"error": "invalid: key is none: a shared key has 32 bytes"},
    41: {"error": "invalid: privatekey is no private key"},
    37: False,
    24: "hello é",  # by name, as the documentation has it
    # There nothing at all.
    16: KEY["public_uncompressed_hex"],
    17: address_of(bytes.fromhex(KEY["public_compressed_hex"])),
}
"""Answers of ours, by call id; of an error, how it begins."""


class Replay:
    def __init__(self, net):
        self.net = net
        sites = {"chat": net.site(), "nop2p": net.site(rules=None)}
        names = {address: name for name, address in RECORDING["sites"].items()}
        # Their words for ours.
        self.words = {their: sites[name] for their, name in names.items() if name in sites}
        self.factory = ClientFactory(net.clock, net.nodes[1].node.commands, LIMITS)
        self.clients = {}
        self.heard = {}
        self.calls = {}
        self.met = set()
        for step in RECORDING["steps"]:
            if "open" in step:
                protocol = self.factory.build(sites[step["open"]["site"]])
                self.clients[step["conn"]] = WebSocketClient(protocol, {"User-Agent": "vectors"})
            elif step.get("dir") == "c2s":
                self.say(step["conn"], step["msg"])
            elif step.get("dir") == "s2c" and step["msg"]["cmd"] == "response":
                self.compare(step["conn"], step["msg"])

    def say(self, conn, message):
        message = self.translate(message)
        self.calls[conn, message["id"]] = message
        self.clients[conn].send(message)
        self.net.advance(0.1)
        (answer,) = self.clients[conn].messages()
        assert (answer["cmd"], answer["to"]) == ("response", message["id"])
        self.heard[conn, message["id"]] = answer["result"]
        if conn == "B" and message["id"] in DIFFERENT:
            self.compare_different(answer["result"], DIFFERENT[message["id"]])
            self.met.add(message["id"])

    def compare_different(self, ours, expected):
        if isinstance(expected, dict):
            assert ours["error"].startswith(expected["error"])
        else:
            assert ours == expected

    def compare(self, conn, recorded):
        call, ours = self.calls[conn, recorded["to"]], self.heard[conn, recorded["to"]]
        theirs = recorded["result"]
        if call["cmd"] == "siteInfo":
            self.words[theirs["auth_address"]] = ours["auth_address"]
        elif call["cmd"] in LEARNT and not {KEY["wif"], KEY["wif_compressed"]} & {
            *call.get("params", ())
        }:
            self.learn(ours, theirs)
        else:
            assert ours == self.translate(theirs)

    def learn(self, ours, theirs):
        if isinstance(theirs, list):
            assert len(ours) == len(theirs)
            for our, their in zip(ours, theirs, strict=True):
                self.learn(our, their)
            return
        assert len(ours) == len(theirs)
        if theirs:
            self.words[theirs] = ours

    def translate(self, value):
        if isinstance(value, str):
            return self.words.get(value, value)
        if isinstance(value, list):
            return [self.translate(item) for item in value]
        if isinstance(value, dict):
            return {key: self.translate(item) for key, item in value.items()}
        return value


def test_the_recorded_session(network):
    played = Replay(network(2))
    assert played.met == set(DIFFERENT)
    assert len(played.heard) == sum(step.get("dir") == "c2s" for step in RECORDING["steps"])
    # The given key comes back as it was given.
    given = played.calls["B", 25]["params"][1]
    assert played.heard["B", 25][0] == given
    # Deterministic signatures under a key of the recording are the recorded ones.
    assert played.heard["B", 38] == played.heard["B", 39] != played.heard["B", 40]
    # Another site, another key.
    assert played.heard["B", 1] != played.heard["N", 1]
