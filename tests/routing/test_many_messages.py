"""The flight recorder explains each of a hundred thousand messages."""

import json
import random

from zeromsg.policy.recorder import CAPACITY
from zeromsg.testing import Network
from zeromsg.wire.packing import pack
from zeromsg.wire.peer_messages import envelope_digest

COUNT = 100_000
BATCH = 2_000


class Sink:
    """A transport that takes everything."""

    def write(self, data):
        pass

    def loseConnection(self):
        pass

    def abortConnection(self):
        pass


def params_of(rng, site, kind, number):
    """A message of one kind, and what its fate must be."""
    values = {"message": {"ok": number}, "site": site, "immediate": False, "peer_count": 5}
    signature = ""
    if kind == "filter":
        values["message"] = {"no": number}
    elif kind == "size":
        values["message"] = {"ok": "x" * 300}
    elif kind == "site":
        values["site"] = "1UnknownUnknownUnknownUnknownUnkn"
    elif kind == "kind":
        values["broadcast"] = False
    elif kind == "signature":
        signature = f"{site}|c3BvaWx0"
    raw = "{" if kind == "raw" else json.dumps(values)
    return {"raw": raw, "nonce": str(rng.getrandbits(80)), "signature": signature, "cert": None}


def test_a_hundred_thousand_random_messages_are_explained(monkeypatch):
    rng = random.Random(11)
    kinds = ("accepted", "accepted", "filter", "size", "site", "kind", "signature", "raw", "again")
    with Network(nodes=2, seed=2) as net:
        site = net.site({"filter": '."ok"', "size_limit": 200})
        net.connect_all()
        node = net.nodes[0].node
        # Points are not what this is about, and would end it soon.
        monkeypatch.setattr(node.scoring, "charge", lambda *arguments: False)
        (link,) = node.pool.links
        link.transport = Sink()
        counters = node.inbound.counters
        for start in range(0, COUNT, BATCH):
            expected, sent = {}, []
            for number in range(start, start + BATCH):
                kind = rng.choice(kinds)
                if kind == "again" and sent:
                    params = rng.choice(sent)
                else:
                    kind = "accepted" if kind == "again" else kind
                    params = params_of(rng, site, kind, number)
                    sent.append(params)
                    digest = envelope_digest(params["nonce"], params["raw"])
                    expected[digest.hex()] = [kind, 0]
                expected[envelope_digest(params["nonce"], params["raw"]).hex()][1] += 1
                link.dataReceived(
                    pack({"cmd": "peerBroadcast", "req_id": number, "params": params})
                )
            for hash, (kind, copies) in expected.items():
                told = node.why(hash)
                assert told["fate"] == kind
                assert told["copies"] == copies
                assert told["from"] == [link.name]
                assert told["checks"][-1]["passed"] is (kind == "accepted")
        refused = sum(counters.refused.values())
        assert counters.received == COUNT == counters.accepted + counters.duplicates + refused
        assert len(node.recorder) == CAPACITY
