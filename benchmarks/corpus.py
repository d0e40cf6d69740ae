"""Messages to measure with: as nodes send them, of about 300 bytes, all different."""

import json
import random
from typing import Any

from zeromsg.crypto.keys import PrivateKey
from zeromsg.crypto.signing import message_text, sign
from zeromsg.wire.peer_messages import envelope_digest

BODY = 180
"""Characters of text that bring an envelope to about 300 bytes."""


def envelopes(site: str, count: int, key: PrivateKey | None, seed: int = 1) -> list[dict[str, Any]]:
    """Parameters of peerBroadcast requests, signed where there is a key."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        values = {
            "message": {"n": number, "text": "".join(rng.choices("abcdefgh ", k=BODY))},
            "peer_count": 5,
            "broadcast": True,
            "immediate": False,
            "site": site,
        }
        raw = json.dumps(values)
        nonce = str(rng.getrandbits(80))
        signature = ""
        if key is not None:
            digest = envelope_digest(nonce, raw).hex()
            signature = f"{key.address}|{sign(message_text(key.address, digest, raw), key)}"
        made.append({"raw": raw, "nonce": nonce, "signature": signature, "cert": None})
    return made
