"""Requests of peers that are no peer messages: files, peers, and polite answers to the rest.

Every request is answered. A refusal is `{"error": text}`; ZeroNet nodes count
those, and six in a row cost the connection, so nothing is called an error that
can be said otherwise. Source: ZeroNet peer protocol, commands.
"""

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from zeromsg.errors import FileMissing, TheirMistake
from zeromsg.interfaces import Answer, IPeerLink, ISite, ISites
from zeromsg.log import leveled
from zeromsg.policy.faces import CLEAR, SHARED, speaks_of
from zeromsg.routing.blame import Blame
from zeromsg.routing.carrying import Carrying
from zeromsg.routing.inbound import Inbound
from zeromsg.routing.joining import Joining
from zeromsg.routing.site_peers import SitePeers
from zeromsg.routing.tracker_server import TrackerServer
from zeromsg.routing.updating import Updating
from zeromsg.wire import names
from zeromsg.wire.peer_messages import integer, text

READ_LIMIT = 512 * 1024
"""Most bytes of a file in one answer."""

UNKNOWN_POINTS = 5
"""What an unknown command or site costs, as among ZeroNet nodes."""

Handler = Callable[[IPeerLink, Mapping[Any, Any]], Answer | Deferred[Answer]]


class Requests:
    """The table of commands that peers may send."""

    _log = Logger(observer=leveled)

    def __init__(
        self,
        *,
        sites: ISites,
        site_peers: SitePeers,
        inbound: Inbound,
        blame: Blame,
        joining: Joining,
        carrying: Carrying,
        tracker: TrackerServer | None,
        check_port: Callable[[IPeerLink, int], Deferred[bool]],
        updating: Updating,
    ) -> None:
        self._sites = sites
        self._site_peers = site_peers
        self._inbound = inbound
        self._joining = joining
        self._carrying = carrying
        self._blame = blame
        self.banned = blame.is_banned
        self._check_port = check_port
        self._updating = updating
        self._handlers: dict[str, Handler] = {
            names.PING: lambda link, params: {"body": names.PONG},
            names.GET_FILE: self._get_file,
            names.STREAM_FILE: self._get_file,
            names.PEX: self._pex,
            names.LIST_MODIFIED: self._list_modified,
            names.UPDATE: self._update,
            names.GET_HASHFIELD: self._get_hashfield,
            names.SET_HASHFIELD: self._acknowledge,
            names.FIND_HASH_IDS: self._find_hash_ids,
            names.GET_PIECEFIELDS: self._get_piecefields,
            names.SET_PIECEFIELDS: self._acknowledge,
            names.GET_TRACKERS: lambda link, params: {"trackers": []},
        }
        if tracker is not None:
            self._handlers[names.ANNOUNCE] = tracker.announce

    def opened(self, link: IPeerLink) -> None:
        if link.announcing:
            # It asks us as a tracker: our sites are none of its business.
            return
        self._updating.opened(link)
        self._site_peers.opened(link)
        self._joining.opened(link)

    def closed(self, link: IPeerLink) -> None:
        if link.announcing:
            return
        self._site_peers.closed(link)
        self._joining.closed(link)
        self._updating.closed(link)

    def requested(self, link: IPeerLink, req_id: Any, cmd: str, params: Mapping[Any, Any]) -> None:
        if cmd == names.PEER_BROADCAST or cmd == names.PEER_SEND:
            self._inbound.arrived(link, req_id, params, cmd == names.PEER_BROADCAST)
            return
        if cmd == names.PEER_VERDICT and link.extension:
            self._blame.heard(link, params)
            link.respond(req_id, {"ok": names.THANKS})
            return
        if cmd == names.PEER_CARRY and link.extension:
            self._carrying.requested(link, req_id, params)
            return
        if cmd == names.CHECKPORT:
            self._checkport(link, req_id, params)
            return
        handler = self._handlers.get(cmd)
        if cmd == names.ANNOUNCE and link.face not in (CLEAR, SHARED):
            # One book behind two onions would show that they are of one node.
            handler = None
        if handler is None:
            link.respond(req_id, {"error": f"{names.UNKNOWN_COMMAND}{cmd[:100]}"})
            self._blame.charge(link.identity, UNKNOWN_POINTS, "unknown commands")
            return
        try:
            answer = handler(link, params)
        except _NothingYet:
            link.respond(req_id, {"error": names.UNKNOWN_SITE})
            return
        except _UnknownSite:
            link.respond(req_id, {"error": names.UNKNOWN_SITE})
            # A zeromsg node introduces itself for all its sites; others should know better.
            if not link.extension:
                self._blame.charge(link.identity, UNKNOWN_POINTS, "unknown sites")
            return
        if isinstance(answer, Deferred):
            answer.addCallback(lambda found: link.respond(req_id, found))
            answer.addErrback(self._unexpected)
        elif cmd == names.STREAM_FILE and "body" in answer:
            link.respond_stream(req_id, answer)
        else:
            link.respond(req_id, answer)

    def _site(self, link: IPeerLink, params: Mapping[Any, Any]) -> ISite:
        """The site a request is about; whoever asks takes part in it."""
        site = self._sites.get(text(params.get("site"), "site", 64))
        # Of another onion's sites an onion knows nothing, not even that they are here.
        if site is None or not speaks_of(link.face, site.address):
            raise _UnknownSite
        self._site_peers.joined(site.address, link)
        if site.content is None:
            # We have nothing of it yet; the asker may.
            self._joining.try_all()
            raise _NothingYet
        return site

    def _get_file(self, link: IPeerLink, params: Mapping[Any, Any]) -> Answer:
        site = self._site(link, params)
        inner_path = text(params.get("inner_path"), "inner_path")
        location = integer(params.get("location"), "location")
        length = params.get("read_bytes")
        length = READ_LIMIT if length is None else min(integer(length, "read_bytes"), READ_LIMIT)
        expected = params.get("file_size")
        try:
            if not site.holds(inner_path):
                # Pages are served the old file meanwhile; a peer would take it for a lie.
                raise FileMissing("no such file")
            body, size = site.read(inner_path, location, length)
        except FileMissing as missing:
            return {"error": f"File read error: {missing}"}
        if type(expected) is int and expected > 0 and expected != size:
            return {"error": f"File read error: File size does not match: {expected}B != {size}B"}
        if location > size:
            return {"error": "File read error: Bad file location"}
        return {"body": body, "size": size, "location": location + len(body)}

    def _pex(self, link: IPeerLink, params: Mapping[Any, Any]) -> Answer:
        site = self._site(link, params)
        self._site_peers.learn(site.address, params, link)
        need = integer(params.get("need", 5), "need")
        return self._site_peers.answer(site.address, link, need)

    def _list_modified(self, link: IPeerLink, params: Mapping[Any, Any]) -> Answer:
        site = self._site(link, params)
        since = params.get("since", 0)
        if isinstance(since, bool) or not isinstance(since, int | float):
            raise TheirMistake("since is no number")
        return {"modified_files": dict(site.modified_since(since))}

    def _get_hashfield(self, link: IPeerLink, params: Mapping[Any, Any]) -> Answer:
        self._site(link, params)
        return {"hashfield_raw": b""}

    def _get_piecefields(self, link: IPeerLink, params: Mapping[Any, Any]) -> Answer:
        self._site(link, params)
        return {"piecefields_packed": {}}

    def _acknowledge(self, link: IPeerLink, params: Mapping[Any, Any]) -> Answer:
        self._site(link, params)
        return {"ok": "Updated"}

    def _find_hash_ids(self, link: IPeerLink, params: Mapping[Any, Any]) -> Answer:
        self._site(link, params)
        return {"peers": {}, "peers_ipv6": {}, "peers_onion": {}, "my": []}

    def _checkport(self, link: IPeerLink, req_id: Any, params: Mapping[Any, Any]) -> None:
        port = integer(params.get("port"), "port", 1, 65535)
        checked = self._check_port(link, port)
        checked.addCallback(
            lambda opened: link.respond(
                req_id,
                {
                    "status": "open" if opened else "closed",
                    "ip_external": link.name.rpartition(":")[0].strip("[]"),
                },
            )
        )
        checked.addErrback(self._unexpected)

    def _unexpected(self, failure: Failure) -> None:
        self._log.failure("a request could not be answered", failure)

    def _update(self, link: IPeerLink, params: Mapping[Any, Any]) -> Answer | Deferred[Answer]:
        """A peer says that a content.json changed. Source: commands, update."""
        return self._updating.told(link, self._site(link, params), params)


class _UnknownSite(Exception):
    """The request names a site that is not here."""


class _NothingYet(Exception):
    """The request names a site that is being fetched."""
