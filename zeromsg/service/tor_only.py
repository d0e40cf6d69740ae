"""Settings that a node behind Tor alone cannot have.

The mode `only` promises that nothing but Tor is spoken to. What would break
that is found before the first socket, all of it at once, and stops the start:
a node that quietly ignored such a setting would be taken for one that obeys it.
"""

import ipaddress
import re
from collections.abc import Iterator

from zeromsg.errors import ConfigError
from zeromsg.net.guard import Place
from zeromsg.service.config import Places, Settings
from zeromsg.service.toml_lines import KeyPath


def check_tor(settings: Settings, places: Places | None = None) -> None:
    """Raises ConfigError naming every setting that does not go with `tor.mode`, and its place."""
    problems = list(_problems(settings))
    if problems:
        places = places or Places()
        mode = settings.tor.mode
        listed = "".join(f"\n  {places.of(_key(problem))}{problem}" for problem in problems)
        raise ConfigError(f'tor.mode = "{mode}" does not go with these settings:{listed}')


def _key(problem: str) -> KeyPath:
    """The key that a problem begins with."""
    return tuple(re.match(r"[a-z_.]+", problem)[0].split("."))  # type: ignore[index]


def _problems(settings: Settings) -> Iterator[str]:
    tor = settings.tor
    if tor.mode == "off":
        if tor.push_own:
            yield 'tor.push_own = true: there is no Tor to push through; set tor.mode = "on"'
        for peer in settings.peers.connect:
            if peer.kind == "onion":
                yield f'peers.connect: "{peer}" is an onion; set tor.mode = "on" or "only"'
        return
    for key, text in (("control", tor.control), ("socks", tor.socks)):
        if text and not Place.parse(text).is_local:
            yield f'tor.{key} = "{text}": Tor has to run on this machine'
    if tor.launch and tor.socks:
        yield "tor.socks: with tor.launch = true the node knows its own"
    if tor.mode == "only":
        yield from _leaks(settings)


def _leaks(settings: Settings) -> Iterator[str]:
    peers = settings.peers
    if peers.endpoint:
        yield (
            f'peers.endpoint = "{peers.endpoint}": listens on the clear net; '
            'set it to "", onions have listeners of their own'
        )
    for peer in peers.connect:
        if peer.kind != "onion":
            yield f'peers.connect: "{peer}" is no onion'
    for tracker in peers.trackers:
        if tracker.kind != "zero" or not tracker.host.endswith(".onion"):
            yield f'peers.trackers: "{tracker.name}" is no zero:// tracker at an onion'
    if peers.local_discovery:
        yield "peers.local_discovery = true: tells the local network that this node is here"
    if peers.map_port:
        yield "peers.map_port = true: asks the router, and shows that this node is here"
    if not is_local(settings.ui.endpoint):
        yield (
            f'ui.endpoint = "{settings.ui.endpoint}": listens beyond this machine; '
            'say interface=127.0.0.1, or "unix:..."'
        )


def is_local(endpoint: str) -> bool:
    """Whether an endpoint string listens for this machine alone; in doubt it does not."""
    kind, *parts = re.split(r"(?<!\\):", endpoint)
    if kind == "unix":
        return True
    if kind not in ("tcp", "tcp4", "tcp6"):
        return False
    hosts = [part.partition("=")[2] for part in parts if part.startswith("interface=")]
    try:
        # The last one counts, as for Twisted.
        return bool(hosts) and ipaddress.ip_address(hosts[-1].replace("\\", "")).is_loopback
    except ValueError:
        return False
