"""What the commands of clients are made of: a call's context, and a table of handlers.

A handler returns the result, or an awaitable of it, or `ANSWERED` where it has
answered itself. A result of None is answered as null. Refusals are raised as
`ClientError`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs

from zeromsg.errors import ClientError
from zeromsg.interfaces import IClient, ISite, ISites, IUser
from zeromsg.routing.binding import Parameter

ANSWERED: Final = object()
"""What a handler returns that has answered the call by itself."""


@attrs.frozen
class Context:
    """Who calls, for which user and site.

    site: the client's own, or another one under `as`.
    """

    client: IClient
    user: IUser
    site: str
    call_id: Any

    @property
    def trusted(self) -> bool:
        """Whether the person calls, through the node's own page. See `IClient.trusted`."""
        return self.client.trusted


@attrs.frozen
class Command:
    """parameters: in the order in which they may be given by position.

    admin: only trusted connections and sites with ADMIN may run it; the number of a
    call is no trust. personal: only trusted connections.
    read: sites that may read another one may run it there.
    """

    parameters: Sequence[Parameter]
    run: Callable[..., Any]
    admin: bool = False
    personal: bool = False
    read: bool = False


Table = Mapping[str, Command]


def held(sites: ISites, address: str) -> ISite:
    """A site of this node. Raises ClientError."""
    site = sites.get(address)
    if site is None:
        raise ClientError("unsupported", f"this node does not hold the site {address}")
    return site
