"""Msgpack the way ZeroNet nodes write it: text as str, bytes as bin, always.

Source: ZeroNet peer protocol, framing.
"""

import functools
from typing import Any

import msgpack

MESSAGE_LIMIT = 5 * 1024 * 1024
"""Most bytes of one message that a node keeps undecoded."""

_COLLECTION_LIMIT = 8192
"""Most entries of one map or list; the longest real ones (file lists) have hundreds."""

_COLLECTIONS_LIMIT = 20_000
"""Most maps and lists of one message. An empty one is one byte, and 70 to 90 in memory."""

_packb = msgpack.Packer(use_bin_type=True, autoreset=True).pack


def pack(message: Any) -> bytes:
    """One msgpack value. Raises TypeError or ValueError on what msgpack cannot hold."""
    packed: bytes = _packb(message)
    return packed


def packed_request(cmd: str, req_id: int, packed_params: bytes) -> bytes:
    """A whole request around parameters that were packed before.

    One message goes to many peers under different numbers: its parameters are
    packed once.
    """
    return b"".join(
        (
            b"\x83\xa3cmd",
            pack(cmd),
            b"\xa6req_id",
            pack(req_id),
            b"\xa6params",
            packed_params,
        )
    )


def scanner() -> msgpack.Unpacker:
    """Finds where values end in a stream, by `skip` and `tell`; it builds nothing."""
    return msgpack.Unpacker(
        # The end of the longest message may share a chunk with the next ones.
        max_buffer_size=2 * MESSAGE_LIMIT,
        # The first buffer's size; by default each connection began with a megabyte.
        read_size=16 * 1024,
    )


_unpackb = functools.partial(
    msgpack.unpackb,
    raw=False,
    unicode_errors="surrogateescape",
    # findHashIds has integer keys and onion proofs have bytes.
    strict_map_key=False,
    max_str_len=MESSAGE_LIMIT,
    max_bin_len=MESSAGE_LIMIT,
    max_array_len=_COLLECTION_LIMIT,
    max_map_len=_COLLECTION_LIMIT,
    max_ext_len=0,
)


def unpack(data: bytes | bytearray) -> Any:
    """One whole value of a stranger. Raises ValueError or TypeError.

    Bytes that are no UTF-8 inside a str survive as surrogates, so that the
    packed addresses of peers older than the bin type can be recovered; whoever
    reads a text must refuse surrogates (`peer_messages.text`).
    """
    if len(data) <= _COLLECTIONS_LIMIT:
        return _unpackb(data)
    left = _COLLECTIONS_LIMIT

    def count(collection: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise ValueError("too many lists and maps")
        return collection

    return _unpackb(data, list_hook=count, object_hook=count)
