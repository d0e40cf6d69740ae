"""Commands and keys as the wires spell them: the one place with camelCase strings."""

from typing import Final

# Peer protocol: the commands a node answers.
HANDSHAKE: Final = "handshake"
RESPONSE: Final = "response"
PING: Final = "ping"
PONG: Final = b"Pong!"
GET_FILE: Final = "getFile"
STREAM_FILE: Final = "streamFile"
PEX: Final = "pex"
LIST_MODIFIED: Final = "listModified"
UPDATE: Final = "update"
GET_HASHFIELD: Final = "getHashfield"
SET_HASHFIELD: Final = "setHashfield"
FIND_HASH_IDS: Final = "findHashIds"
GET_PIECEFIELDS: Final = "getPiecefields"
SET_PIECEFIELDS: Final = "setPiecefields"
CHECKPORT: Final = "checkport"
ANNOUNCE: Final = "announce"
GET_TRACKERS: Final = "getTrackers"
PEER_BROADCAST: Final = "peerBroadcast"
PEER_SEND: Final = "peerSend"
PEER_VERDICT: Final = "peerVerdict"
"""Between zeromsg nodes: what clients said of a message. ZeroNet nodes are never sent it."""
PEER_CARRY: Final = "peerCarry"
"""Between zeromsg nodes: hand a peerSend on to a neighbour of yours."""

# Peer protocol: fixed texts that ZeroNet nodes look at, or that their users know.
TLS_RSA: Final = "tls-rsa"
UNKNOWN_COMMAND: Final = "Unknown command: "
UNKNOWN_SITE: Final = "Unknown site"
THANKS: Final = "thx"
NOT_CHANGED: Final = "File not changed"
ALREADY_RECEIVED: Final = "Already received, thanks"
UNHEARD: Final = "Not before you heard our verdicts on your last messages"

CARRIED: Final = "carried"
"""In a peerSend between zeromsg nodes: it is another's, and only handed on."""
CARRIES: Final = "carries"
"""In a pex between zeromsg nodes: names of peers with closed ports to whom messages are carried."""

WANT_VERDICT: Final = "want_verdict"
"""In a peerBroadcast between zeromsg nodes: answer with a peerVerdict, whatever it is."""

# ZeroFrame: commands and events beside those that share a peer command's name.
PEER_REPLY: Final = "peerReply"
PEER_VALID: Final = "peerValid"
PEER_INVALID: Final = "peerInvalid"
PEER_IGNORE: Final = "peerIgnore"
PEER_LIST: Final = "peerList"
PEER_WHY: Final = "peerWhy"
PEER_HISTORY: Final = "peerHistory"
PEER_RECEIVE: Final = "peerReceive"
PEER_KEY_ADD: Final = "peerKeyAdd"
PEER_KEY_REMOVE: Final = "peerKeyRemove"
PEER_KEY_LIST: Final = "peerKeyList"
PEER_DECRYPT_MODE: Final = "peerDecryptMode"
PEER_DECRYPT: Final = "peerDecrypt"
SELF: Final = "self"
PROMPT: Final = "zeromsgPrompt"
"""To the node's own pages: the person is asked something."""
PROMPT_OVER: Final = "zeromsgPromptOver"
"""To the same: it was answered, or nobody asks any more."""
SET_SITE_INFO: Final = "setSiteInfo"

CONTENT_JSON: Final = "content.json"
P2P_JSON: Final = "p2p.json"

# What we call ourselves. ZeroNet nodes switch features by `rev`, so it is theirs.
ZERONET_VERSION: Final = "0.7.2"
ZERONET_REV: Final = 4555
PEER_ID_PREFIX: Final = "-UT3530-"
EXTENSION: Final = "zeromsg"
"""Handshake key by which zeromsg nodes know each other; ZeroNet nodes ignore it."""
EXTENSION_VERSION: Final = 1
CARRY: Final = "carry"
"""A feature in that key: the node hands on what a `peerCarry` brings."""
