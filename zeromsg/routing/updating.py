"""Newer versions of sites that we hold: told by an `update`, or found by `listModified`.

A peer is asked which versions it has soon after it shows that it takes part in
a site, and a few peers of each site every ten minutes. Whoever names a newer one
is asked for that content.json; what is verified counts at once, and
`routing.joining` fetches the files that changed. Who is found to be behind is
told so (`routing.spreading`).

A claim proves nothing. Each costs us one fetch at most, from the claimer itself;
if it does not deliver what it claimed it is charged, and its further claims of
that site are not looked at for a minute, two, four, up to an hour.
Source: ZeroNet peer protocol, sections 8 and 14.
"""

import math
import random
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from zeromsg.errors import ContentRefused, Unreachable
from zeromsg.interfaces import Answer, IPeerLink, ISite, ISites, Wall
from zeromsg.log import leveled
from zeromsg.policy.rate import Buckets
from zeromsg.policy.site_content import FUTURE_LIMIT, ContentUnchanged
from zeromsg.policy.versions import Versions, parse_modified, version
from zeromsg.routing.deadlines import Deadlines
from zeromsg.routing.fetching import fetch
from zeromsg.routing.joining import Joining
from zeromsg.routing.site_peers import SitePeers
from zeromsg.routing.spreading import Spreading
from zeromsg.wire.names import CONTENT_JSON, LIST_MODIFIED, NOT_CHANGED
from zeromsg.wire.peer_messages import octets, text

UPDATE_LIMIT = 1024 * 1024
"""Most bytes of a content.json that comes within an `update`."""

UPDATE_BURST = 100
UPDATES_PER_SECOND = 1.0
"""Updates of one host that are looked at; each further one costs it a point."""

UPDATE_BYTES = 16 * 1024
"""So many bytes of a content.json within an `update` count as one more."""

LOOK_SECONDS = 2.0
"""How often peers are looked for that were not asked which versions they have."""

ASKS = 10
"""Peers asked at one look."""

ROUND_SECONDS = 600.0
ROUND_PEERS = 3
"""Peers of each site that are asked again, every ten to twelve minutes."""

ASK_AGAIN_SECONDS = 60.0
"""No peer is asked about a site more often than that, whatever it says."""

MARGIN_SECONDS = 86400.0
"""We ask for what changed since a day before our newest: files of users come late, and their
times are their word."""

CLAIMS_LIMIT = 50
"""Newer files of one site that one peer may name at a time."""

FETCHES = 3
"""content.json files of one site that are fetched at a time, each from another peer."""

BEHIND_LIMIT = 5
"""Files of which a peer that is behind is told after one question."""

ANSWER_SECONDS = 8.0
"""When an `update` is answered at the latest, though the file is still on its way."""

REST_FIRST = 60.0
REST_MOST = 3600.0
"""How long claims of a peer that did not keep one are not looked at."""

_STALE_POINTS = 1
_CLAIM_POINTS = 5

_NOT_CHANGED: Answer = {"ok": NOT_CHANGED}
_TOO_MANY: Answer = {"warning": "Too many updates"}
_CANNOT: Answer = {"error": "File invalid update: Can't download updaed file"}
"""Spelt as ZeroNet nodes spell it."""


@attrs.define(eq=False)
class _Claim:
    """A peer says that it has a newer content.json.

    modified: what it says; certain: whether it said so itself.
    answered: for who waits for what comes of it.
    """

    modified: float
    certain: bool = True
    answered: Deferred[Answer] = attrs.field(factory=Deferred)

    def settle(self, answer: Answer) -> None:
        if not self.answered.called:
            self.answered.callback(answer)


@attrs.define
class _Seen:
    """What a link was asked about one site, and what came of its claims."""

    asked_at: float = -math.inf
    again: bool = True
    refused: bool = False
    rest_until: float = -math.inf
    rest: float = REST_FIRST


class Updating:
    """Takes newer versions of sites."""

    _log = Logger(observer=leveled)

    def __init__(
        self,
        *,
        sites: ISites,
        site_peers: SitePeers,
        versions: Versions[IPeerLink],
        joining: Joining,
        spreading: Spreading,
        deadlines: Deadlines,
        clock: IReactorTime,
        wall: Wall,
        rng: random.Random,
        charge: Callable[[str, float, str], None],
        changed: Callable[[str], None],
    ) -> None:
        self._sites = sites
        self._site_peers = site_peers
        self._versions = versions
        self._joining = joining
        self._spreading = spreading
        self._deadlines = deadlines
        self._clock = clock
        self._wall = wall
        self._rng = rng
        self._charge = charge
        self._changed = changed
        self._updates = Buckets(UPDATE_BURST, UPDATES_PER_SECOND)
        self._seen: dict[IPeerLink, dict[str, _Seen]] = {}
        self._due: dict[str, float] = {}
        self._claims: dict[str, dict[tuple[str, IPeerLink], _Claim]] = {}
        # What is being fetched for each site: from whom, and which file.
        self._fetching: dict[str, dict[IPeerLink, str]] = {}
        self._works: set[Deferred[None]] = set()
        self._looking = LoopingCall(self._look)
        self._looking.clock = clock

    def start(self) -> None:
        self._looking.start(LOOK_SECONDS, now=False)

    def stop(self) -> None:
        if self._looking.running:
            self._looking.stop()
        self._claims.clear()
        for work in list(self._works):
            work.cancel()
        self._spreading.stop()

    def opened(self, link: IPeerLink) -> None:
        self._seen[link] = {}

    def closed(self, link: IPeerLink) -> None:
        self._seen.pop(link, None)
        for claims in self._claims.values():
            _drop(claims, link)
        self._versions.forget(link)
        self._spreading.closed(link)

    # What peers tell.

    def told(
        self, link: IPeerLink, site: ISite, params: Mapping[Any, Any]
    ) -> Answer | Deferred[Answer]:
        """A peer's `update`. Raises TheirMistake for a malformed one."""
        inner_path = text(params.get("inner_path"), "inner_path")
        if not inner_path.endswith(CONTENT_JSON):
            return {"error": "Only content.json update allowed"}
        body = octets(params.get("body") or b"", "body", UPDATE_LIMIT)
        said = version(params.get("modified"))
        if said is not None:
            self._versions.learn(link, site.address, inner_path, said)
        now = self._clock.seconds()
        # A large one takes longer to read, also where it brings nothing new.
        tokens = 1.0 + len(body) / UPDATE_BYTES
        if not self._updates.allows(link.identity, now, tokens):
            self._charge(link.identity, _STALE_POINTS, "too many updates")
            self._ask_soon(link, site.address)
            return _TOO_MANY
        self._updates.spoke(link.identity, now, tokens)
        held = site.version(inner_path)
        if site.own or (said is not None and held is not None and said <= held):
            return _NOT_CHANGED
        if not site.expects(inner_path):
            # Its root may be newer than ours, and speak of this file.
            self._ask_soon(link, site.address)
            return _NOT_CHANGED
        if body:
            return self._store(link, site, inner_path, body)
        if said is not None and self._absurd(said):
            self._charge(link.identity, _STALE_POINTS, "a content.json from the future")
            return {"error": f"File {inner_path} invalid: modified is more than a day ahead"}
        if said is not None:
            claim = _Claim(said)
        else:
            claim = _Claim(math.nextafter(-1 if held is None else held, math.inf), certain=False)
        if not self._claim(link, site, inner_path, claim):
            return _NOT_CHANGED
        late = self._deadlines.add(ANSWER_SECONDS, lambda: claim.settle(_NOT_CHANGED))
        return claim.answered.addCallback(partial(_at_last, late.cancel))

    def _absurd(self, modified: float) -> bool:
        return modified > self._wall() + FUTURE_LIMIT

    def _store(self, link: IPeerLink, site: ISite, inner_path: str, data: bytes) -> Answer:
        """Take a content.json if it is newer and signed; what is to be said of it."""
        try:
            site.store_content(inner_path, data)
        except ContentUnchanged:
            return _NOT_CHANGED
        except ContentRefused as refused:
            self._charge(link.identity, refused.points, "invalid content.json")
            return {"error": f"File {inner_path} invalid: {refused}"}
        self._versions.learn(link, site.address, inner_path, site.version(inner_path))
        self._log.info("{site} has a new {path}", site=site.address, path=inner_path)
        self._changed(site.address)
        self._spreading.changed(site.address, inner_path)
        self._joining.newer(link, site)
        return {"ok": f"Thanks, file {inner_path} updated!"}

    # Claims.

    def _claim(self, link: IPeerLink, site: ISite, inner_path: str, claim: _Claim) -> bool:
        """Have it looked into; False where that is not to be."""
        if self._of(link, site.address).rest_until > self._clock.seconds():
            return False
        claims = self._claims.setdefault(site.address, {})
        if sum(claimer is link for _, claimer in claims) >= CLAIMS_LIMIT:
            return False
        earlier = claims.get((inner_path, link))
        claims[inner_path, link] = claim
        if earlier is not None:
            earlier.settle(_NOT_CHANGED)
        self._go_on(site)
        return True

    def _go_on(self, site: ISite) -> None:
        """Begin to fetch what is claimed, as far as there is room."""
        fetching = self._fetching.setdefault(site.address, {})
        while len(fetching) < FETCHES:
            found = self._next(site, fetching)
            if found is None:
                return
            inner_path, link = found
            claim = self._claims[site.address].pop(found)
            fetching[link] = inner_path
            work = Deferred.fromCoroutine(self._look_into(link, site, inner_path, claim))
            self._works.add(work)
            work.addErrback(self._failed, site.address)
            work.addBoth(self._over, work, link, site)

    def _over(self, _: object, work: Deferred[None], link: IPeerLink, site: ISite) -> None:
        self._works.discard(work)
        self._fetching[site.address].pop(link, None)
        self._go_on(site)

    def _failed(self, failure: Failure, address: str) -> None:
        if not failure.check(CancelledError):
            self._log.failure("updating {site} failed", failure, site=address)

    def _next(self, site: ISite, fetching: Mapping[IPeerLink, str]) -> tuple[str, IPeerLink] | None:
        """The claim to look into now: of the root first, then the newest."""
        claims = self._claims.get(site.address, {})
        best, best_rank = None, (False, -math.inf)
        for key, claim in list(claims.items()):
            inner_path, link = key
            held = site.version(inner_path)
            if held is not None and held >= claim.modified:
                del claims[key]
                claim.settle(_NOT_CHANGED)
                continue
            rank = (inner_path == CONTENT_JSON, claim.modified)
            free = link not in fetching and inner_path not in fetching.values()
            if free and (best is None or rank > best_rank):
                best, best_rank = key, rank
        return best

    async def _look_into(
        self, link: IPeerLink, site: ISite, inner_path: str, claim: _Claim
    ) -> None:
        answer = _CANNOT
        kept = False
        try:
            data = await fetch(link, site.address, inner_path, None, self._clock)
            held = site.version(inner_path)
            if held is not None and held >= claim.modified:
                answer, kept = _NOT_CHANGED, True
            else:
                answer = self._store(link, site, inner_path, data)
                held = site.version(inner_path)
                kept = held is not None and held >= claim.modified
                if not kept and "error" not in answer:
                    points = _CLAIM_POINTS if claim.certain else _STALE_POINTS
                    self._charge(link.identity, points, "no such version of a content.json")
        except Unreachable as problem:
            self._log.debug("{peer}: {problem}", peer=link.name, problem=str(problem))
        except ContentRefused as refused:
            self._charge(link.identity, refused.points, "a file that was not what it should be")
        finally:
            if kept:
                self._of(link, site.address).rest = REST_FIRST
            else:
                self._drop_claims(link, site, rest=claim.certain)
            claim.settle(answer)
        if not kept:
            self._ask_others(link, site.address)

    def _drop_claims(self, link: IPeerLink, site: ISite, rest: bool) -> None:
        """The peer did not deliver: look at nothing else that it claims, for a while."""
        _drop(self._claims.get(site.address, {}), link)
        seen = self._of(link, site.address)
        if rest:
            seen.rest_until = self._clock.seconds() + seen.rest
            seen.rest = min(2 * seen.rest, REST_MOST)

    # What we ask.

    def _look(self) -> None:
        asks = ASKS
        now = self._clock.seconds()
        for address in list(self._sites.addresses()):
            site = self._sites.get(address)
            if site is None or site.content is None:
                continue
            links = self._site_peers.participants(address)
            for link in links:
                seen = self._of(link, address)
                if asks and seen.again and now - seen.asked_at >= ASK_AGAIN_SECONDS:
                    asks -= 1
                    self._ask(link, site)
            if now >= self._due.setdefault(address, now + ROUND_SECONDS):
                self._due[address] = now + ROUND_SECONDS * (1 + 0.2 * self._rng.random())
                self._ask_some(links, address)

    def _ask_others(self, link: IPeerLink, address: str) -> None:
        """One peer could not deliver a new version: others may have it."""
        others = [at for at in self._site_peers.participants(address) if at is not link]
        self._ask_some(others, address)

    def _ask_some(self, links: Iterable[IPeerLink], address: str) -> None:
        willing = [link for link in links if not self._of(link, address).refused]
        for link in self._rng.sample(willing, min(ROUND_PEERS, len(willing))):
            self._ask_soon(link, address)

    def _ask_soon(self, link: IPeerLink, address: str) -> None:
        self._of(link, address).again = True

    def _ask(self, link: IPeerLink, site: ISite) -> None:
        seen = self._of(link, site.address)
        seen.asked_at, seen.again = self._clock.seconds(), False
        work = Deferred.fromCoroutine(self._ask_versions(link, site))
        self._works.add(work)
        work.addErrback(self._failed, site.address)
        work.addBoth(lambda _: self._works.discard(work))

    async def _ask_versions(self, link: IPeerLink, site: ISite) -> None:
        since = self._since(site)
        try:
            answer = await link.ask(LIST_MODIFIED, {"site": site.address, "since": since})
            said = parse_modified(answer)
        except Unreachable:
            return
        except ContentRefused as refused:
            self._charge(link.identity, refused.points, "a wrong answer to listModified")
            said = None
        if said is None:
            # To ask a ZeroNet node once more for a site that it does not hold costs points.
            self._of(link, site.address).refused = not link.extension
            return
        behind = []
        for inner_path, modified in said.items():
            self._versions.learn(link, site.address, inner_path, modified)
            held = site.version(inner_path)
            if held is not None and modified < held:
                behind.append(inner_path)
            elif not site.own and (held is None or modified > held):
                self._heard(link, site, inner_path, modified)
        root = site.version(CONTENT_JSON)
        if root is not None and root > since and CONTENT_JSON not in said:
            behind.insert(0, CONTENT_JSON)
        for inner_path in behind[:BEHIND_LIMIT]:
            self._spreading.tell(link, site.address, inner_path)

    def _heard(self, link: IPeerLink, site: ISite, inner_path: str, modified: float) -> None:
        if site.expects(inner_path) and not self._absurd(modified):
            self._claim(link, site, inner_path, _Claim(modified))

    def _since(self, site: ISite) -> float:
        newest = max(site.modified_since(-math.inf).values(), default=0.0)
        return max(0.0, min(newest, self._wall()) - MARGIN_SECONDS)

    def _of(self, link: IPeerLink, address: str) -> _Seen:
        seen = self._seen.get(link)
        if seen is None:
            return _Seen()  # it is closed
        if address not in seen:
            seen[address] = _Seen()
        return seen[address]


def _drop(claims: dict[tuple[str, IPeerLink], _Claim], link: IPeerLink) -> None:
    for key in [key for key in claims if key[1] is link]:
        claims.pop(key).settle(_CANNOT)


def _at_last(action: Callable[[], None], answer: Answer) -> Answer:
    action()
    return answer
