"""Msgpack the way ZeroNet nodes write it: text as str, bytes as bin, always.

Source: ZeroNet peer protocol, framing.
"""

from typing import Any

import msgpack

MESSAGE_LIMIT = 5 * 1024 * 1024
"""Most bytes of one message that a node keeps undecoded."""

_COLLECTION_LIMIT = 8192
"""Most entries of one map or list; the longest real ones (file lists) have hundreds."""

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


def unpacker() -> msgpack.Unpacker:
    """A stream decoder that bounds what a stranger can make it build.

    Bytes that are no UTF-8 inside a str survive as surrogates, so that the
    packed addresses of peers older than the bin type can be recovered; whoever
    reads a text must refuse surrogates (`peer_messages.text`).
    """
    return msgpack.Unpacker(
        raw=False,
        unicode_errors="surrogateescape",
        # findHashIds has integer keys and onion proofs have bytes.
        strict_map_key=False,
        # The end of the longest message may share a chunk with the next ones.
        max_buffer_size=2 * MESSAGE_LIMIT,
        # The first buffer's size; by default each connection began with a megabyte.
        read_size=16 * 1024,
        max_str_len=MESSAGE_LIMIT,
        max_bin_len=MESSAGE_LIMIT,
        max_array_len=_COLLECTION_LIMIT,
        max_map_len=_COLLECTION_LIMIT,
        max_ext_len=0,
    )
