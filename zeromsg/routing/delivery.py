"""Messages to a site's clients, their verdicts, and the queue for clients to come."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import attrs
from twisted.logger import Logger

from zeromsg.interfaces import IClient, ISites, IStore, Wall
from zeromsg.log import leveled
from zeromsg.policy.ballot import Ballot, Verdict
from zeromsg.policy.site_state import Queued, SiteState
from zeromsg.routing.deadlines import Deadline, Deadlines
from zeromsg.routing.secrecy import MARK, Secrecy
from zeromsg.wire.client_messages import event_head
from zeromsg.wire.json_text import dump_compact
from zeromsg.wire.names import PEER_RECEIVE, PEER_SEND

WAITING_LIMIT = 10_000
"""Messages that may wait for verdicts at one time; further ones are taken as accepted."""


@attrs.frozen
class Own:
    """How the clients of the user who sent a sealed message see it.

    user: its master address. event: parameters as JSON.
    """

    user: str
    event: str


Settled = Callable[[Verdict, bool], None]
"""Told the verdict, and whether any client gave one."""


@attrs.define(eq=False)
class _Waiting:
    ballot: Ballot
    voters: tuple[IClient, ...]
    settled: Settled
    deadline: Deadline


def receive_event(
    *,
    ip: str,
    hash: str,
    message_text: str,
    signed_by: str,
    cert: str,
    site: str,
    broadcast: bool,
    timestamp: float | None,
    user: Mapping[str, Any] | None,
    trace: Iterable[str] | None = None,
    with_trace: bool = False,
    encrypted: Mapping[str, Any] | None = None,
) -> str:
    """The parameters of `peerReceive` as JSON; the message's own text is not encoded again.

    Source: ZeroFrame API, PeerMessage events; `user` and `encrypted` are ours.
    """
    end = dump_compact(
        {
            "signed_by": signed_by,
            "cert": cert,
            "site": site,
            "broadcast": broadcast,
            "timestamp": timestamp,
            "user": user,
            **({"trace": None if trace is None else list(trace)} if with_trace else {}),
            **({} if encrypted is None else {"encrypted": encrypted}),
        }
    )
    start = f'"ip":{dump_compact(ip)},' if ip else ""
    return f'{{{start}"hash":"{hash}","message":{message_text},{end[1:]}'


class Delivery:
    """Who listens to which site, what they were shown, and what they said of it."""

    _log = Logger(observer=leveled)

    def __init__(
        self,
        sites: ISites,
        store: IStore,
        states: Callable[[str], SiteState[Any]],
        secrecy: Secrecy,
        deadlines: Deadlines,
        wall: Wall,
        mergers: Callable[[str], Collection[str]],
    ) -> None:
        self._secrecy = secrecy
        self._mergers = mergers
        self._sites = sites
        self._store = store
        self._states = states
        self._deadlines = deadlines
        self._wall = wall
        self._clients: dict[str, dict[IClient, None]] = {}
        self._waiting: dict[str, _Waiting] = {}

    def restore(self, site: str) -> None:
        """Take over the messages that an earlier run kept for the site's next client."""
        queue = self._states(site).queue
        for row, _, event, _, shown in self._store.queue_load(site):
            self._dropped(queue.put(Queued(row, event, shown)))

    def opened(self, client: IClient) -> None:
        """A new client; it gets what waited for one, if it listens."""
        self._clients.setdefault(client.site, {})[client] = None
        self.flush(client)

    def flush(self, client: IClient) -> None:
        """Give a client what waited for one, as fast as it reads; the rest stays for the next.

        What is sealed to further users of the node stays for these as well. Whoever
        comes before them is shown it once, opened or not, as if it had come just now.
        """
        if client not in self._clients.get(client.site, ()) or not self._listens(client):
            return
        queue, user = self._states(client.site).queue, self._secrecy.user_of(client)
        gone: list[int] = []
        shown: list[int] = []
        more = False
        for item in queue.waiting_for(user):
            if not client.ready:
                more = True
                break
            if self._secrecy.awaited(item.event, item.shown | {user}):
                queue.show(item, user)
                shown.append(item.row)
            else:
                queue.remove(item)
                gone.append(item.row)
            event = self._secrecy.readable(client, item.event)
            client.push(event_head(PEER_RECEIVE, event))
        # Noted after they were written: a crash in between shows them twice, never not at all.
        if gone:
            self._store.queue_delete(gone)
        if shown:
            self._store.queue_show(shown, user)
        if more:
            client.when_ready(lambda: self.flush(client))

    def closed(self, client: IClient) -> None:
        self._secrecy.closed(client)
        clients = self._clients.get(client.site, {})
        clients.pop(client, None)
        if not clients:
            self._clients.pop(client.site, None)
        for hash, waiting in list(self._waiting.items()):
            if client in waiting.voters:
                self._conclude(hash, waiting, waiting.ballot.leave(client))

    def count(self, site: str | None = None) -> int:
        """How many clients there are, of one site or of all."""
        sites = self._clients if site is None else (site,)
        clients = (client for each in sites for client in self._clients.get(each, ()))
        # A page of the node's own has a second connection, which is no client's.
        return sum(not client.trusted for client in clients)

    def clients(self, site: str) -> tuple[IClient, ...]:
        return tuple(self._clients.get(site, ()))

    def _listens(self, client: IClient) -> bool:
        # Rules may have arrived after the page was opened, so they are looked at each time.
        site = self._sites.get(client.site)
        if client.listens(PEER_RECEIVE):
            return True
        # Where the person is, no message is read: the page's other connection does that.
        return not client.trusted and site is not None and site.rules is not None

    def listeners(self, site: str) -> tuple[IClient, ...]:
        """Clients that hear of a site's messages: its own, and those of its mergers."""
        listeners = tuple(filter(self._listens, self._clients.get(site, ())))
        for merger in self._mergers(site):
            listeners += tuple(filter(self._listens, self._clients.get(merger, ())))
        return listeners

    def show(self, listeners: Iterable[IClient], event: str, own: Own | None = None) -> None:
        """A received message to clients. own: how clients of the sender see it."""
        self._push(PEER_RECEIVE, listeners, event, own)

    def echo(self, site: str, event: str, own: Own | None = None) -> None:
        """A message of our own, once it is on its way."""
        self._push(PEER_SEND, self.listeners(site), event, own)

    def _push(self, cmd: str, clients: Iterable[IClient], event: str, own: Own | None) -> None:
        view = self._secrecy.view(event)
        if view is None:
            head = event_head(cmd, event)
            for client in clients:
                client.push(head)
            return
        for client in clients:
            if own is not None and self._secrecy.acts_for(client, own.user):
                client.push(event_head(cmd, own.event))
            else:
                client.push(event_head(cmd, view.text_for(client)))

    def keep(self, site: str, hash: str, event: str, listeners: Collection[IClient] = ()) -> bool:
        """Keep a message for clients to come; whether it was.

        listeners: clients that hear of it now. Where there are any, it is kept only
        if it may be sealed to a user that has none among them.
        """
        if listeners and MARK not in event:
            return False  # before thousands of listeners are looked at
        shown = frozenset(map(self._secrecy.user_of, listeners))
        if shown and not self._secrecy.awaited(event, shown):
            return False
        row = self._store.queue_put(site, hash, event, self._wall(), shown)
        self._dropped(self._states(site).queue.put(Queued(row, event, shown)))
        return True

    def _dropped(self, items: list[Queued]) -> None:
        if items:
            self._store.queue_delete([item.row for item in items])

    def await_verdict(
        self,
        hash: str,
        voters: tuple[IClient, ...],
        seconds: float,
        settled: Settled,
    ) -> None:
        """Call `settled` once the voters have judged, at the latest after so many seconds.

        To be called before they are shown the message: a verdict may come at once.
        """
        earlier = self._waiting.pop(hash, None)
        if earlier is not None:
            # It came unsigned before, and comes again signed: only this one is judged,
            # and travels on; but if it is rejected, whoever brought the first one pays too.
            earlier.deadline.cancel()
            settled = _both(earlier.settled, settled)
        if seconds <= 0 or not voters or len(self._waiting) >= WAITING_LIMIT:
            settled(Verdict.ACCEPT, False)
            return
        ballot = Ballot(voters)
        deadline = self._deadlines.add(seconds, lambda: self._time_up(hash))
        self._waiting[hash] = _Waiting(ballot, voters, settled, deadline)

    @property
    def waiting(self) -> int:
        """How many messages wait for their verdict."""
        return len(self._waiting)

    def judged(self, client: IClient, hash: str, verdict: Verdict) -> None:
        """A client's verdict; on messages that do not wait it changes nothing."""
        waiting = self._waiting.get(hash)
        if waiting is not None:
            self._conclude(hash, waiting, waiting.ballot.vote(client, verdict))

    def _time_up(self, hash: str) -> None:
        waiting = self._waiting.get(hash)
        if waiting is not None:
            self._conclude(hash, waiting, waiting.ballot.close())

    def _conclude(self, hash: str, waiting: _Waiting, outcome: Verdict | None) -> None:
        if outcome is None:
            return
        del self._waiting[hash]
        waiting.deadline.cancel()
        waiting.settled(outcome, waiting.ballot.judged)


def _both(earlier: Settled, later: Settled) -> Settled:
    def settled(verdict: Verdict, judged: bool) -> None:
        if verdict is Verdict.REJECT:
            earlier(verdict, judged)
        later(verdict, judged)

    return settled
