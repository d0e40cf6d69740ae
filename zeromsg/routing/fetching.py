"""Fetching one file of a site from one peer, within its declared size and in bounded time."""

from twisted.internet.interfaces import IReactorTime

from zeromsg.errors import ContentRefused, Unreachable
from zeromsg.interfaces import IPeerLink
from zeromsg.protocol.conversation import STREAM_LIMIT
from zeromsg.wire.names import STREAM_FILE

CHUNK = 512 * 1024
PIECE_SECONDS = 10.0
CONTENT_LIMIT = 10_000_000
"""Most bytes of a content.json whose size nobody has told us yet."""

PATIENCE_SECONDS = 30.0
LEAST_RATE = 32 * 1024
"""A file may take `PATIENCE_SECONDS`, and a second for each so many bytes."""

_LEAST = 16 * 1024
"""Fewer bytes, before the end of a file, could make one fetch last for ever."""

assert CHUNK <= STREAM_LIMIT


class NotThere(Unreachable):
    """The peer answered that it does not have it."""


async def fetch(
    link: IPeerLink, site: str, inner_path: str, size: int | None, clock: IReactorTime
) -> bytes:
    """A whole file, unverified. size: what it must have, None when unknown.

    Raises Unreachable, NotThere, and ContentRefused for an answer that is none.
    """
    limit = CONTENT_LIMIT if size is None else size
    data = bytearray()
    begun = clock.seconds()
    while True:
        answer = await link.ask(
            STREAM_FILE,
            {
                "site": site,
                "inner_path": inner_path,
                "location": len(data),
                "read_bytes": CHUNK,
                "file_size": size,
            },
            PIECE_SECONDS,
        )
        if "error" in answer:
            raise NotThere(f"{inner_path}: {str(answer['error'])[:200]}")
        body, total = answer.get("body"), answer.get("size")
        if not isinstance(body, bytes) or type(total) is not int:
            raise ContentRefused(f"{inner_path}: an answer without a body")
        if total > limit or len(data) + len(body) > limit:
            raise ContentRefused(f"{inner_path}: larger than the {limit} bytes declared")
        data += body
        if len(data) >= total:
            return bytes(data)
        if len(body) < _LEAST:
            raise ContentRefused(f"{inner_path}: it ends early, or comes in crumbs")
        if clock.seconds() - begun > PATIENCE_SECONDS + total / LEAST_RATE:
            raise Unreachable(f"{inner_path}: it comes too slowly")
