"""One TOML file becomes a frozen `Settings`; command-line overrides change single keys.

Every option stands once, in the classes below, with its type, default, what it
accepts and a line of help. Reading, the errors, the overrides and `describe`
all derive from there, so that none of them can know a key the others do not.

Nothing is guessed: an unknown key, a value out of range or a site named twice
is a `ConfigError` that names file, line, key and what was expected. Paths come
out absolute, because a daemon changes its working directory. No socket is
opened here and no path but the file's own is touched.
"""

import datetime
import difflib
import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import attrs
import platformdirs

from zeromsg.errors import ConfigError
from zeromsg.net.guard import Place
from zeromsg.service.toml_lines import BARE_KEY, KeyPath, line_numbers
from zeromsg.wire.trackers import Tracker, parse_tracker
from zeromsg.wire.values import PeerAddress, is_site_address

_Table = TypeVar("_Table", bound=attrs.AttrsInstance)


# What a key may hold


class _Unfit(ValueError):
    """A value that does not fit.

    found: the offending value, which may be one item of a list.
    reason: what is wrong with it, where "expected ..." does not say enough.
    """

    def __init__(self, found: object, reason: str = "") -> None:
        super().__init__(reason)
        self.found = found


@attrs.frozen
class _Kind:
    """One kind of value.

    expected: completes the sentence "expected ...".
    read: a TOML value and the folder that relative paths start from -> the
        setting; raises `_Unfit`.
    """

    expected: str
    read: Callable[[Any, Path], Any]


def _whole(low: int, high: int, unit: str = "") -> _Kind:
    def read(value: Any, folder: Path) -> int:
        # To Python true is a whole number; to whoever writes a file it is none.
        if type(value) is not int or not low <= value <= high:
            raise _Unfit(value)
        return value

    number = f"a whole number of {unit}" if unit else "a whole number"
    return _Kind(f"{number} from {low} to {high}", read)


def _text(expected: str, accepts: Callable[[str], object]) -> _Kind:
    def read(value: Any, folder: Path) -> str:
        if not isinstance(value, str) or not accepts(value):
            raise _Unfit(value)
        return value

    return _Kind(expected, read)


def _choice(*words: str) -> _Kind:
    return _text(" or ".join(f'"{word}"' for word in words), words.__contains__)


def _list_of(item: _Kind, expected: str) -> _Kind:
    def read(value: Any, folder: Path) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _Unfit(value)
        return tuple(item.read(entry, folder) for entry in value)

    return _Kind(expected, read)


def _read_bool(value: Any, folder: Path) -> bool:
    if not isinstance(value, bool):
        raise _Unfit(value)
    return value


def _read_path(value: Any, folder: Path) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise _Unfit(value)
    try:
        return folder / Path(value).expanduser()
    except RuntimeError:  # "~somebody" who has no home here
        raise _Unfit(value) from None


def _read_peer(value: Any, folder: Path) -> PeerAddress:
    if not isinstance(value, str):
        raise _Unfit(value)
    try:
        peer = PeerAddress.parse(value)
    except ValueError as error:
        raise _Unfit(value, str(error)) from None
    if peer.port == 0:
        raise _Unfit(value, "nobody can be dialled at port 0")
    return peer


def _read_tracker(value: Any, folder: Path) -> Tracker:
    if not isinstance(value, str):
        raise _Unfit(value)
    try:
        return parse_tracker(value)
    except ValueError as error:
        raise _Unfit(value, str(error)) from None


def _is_endpoint(text: str) -> bool:
    """Whether text looks like an endpoint string of Twisted.

    The form only: Twisted's own parser would load every plugin and may install
    a reactor. Of kinds other than tcp and unix the name alone is judged here,
    and Twisted the rest, when it listens.
    """
    kind, _, rest = text.partition(":")
    if kind in ("tcp", "tcp4", "tcp6"):
        return _TCP_ARGUMENTS.fullmatch(rest) is not None and int(rest.split(":")[0]) < 65536
    if kind == "unix":
        return rest != ""
    return rest != "" and kind.isidentifier()


# An escaped colon, as an IPv6 interface needs it, belongs to a value.
_TCP_ARGUMENTS = re.compile(r"[0-9]{1,5}(:(interface|backlog)=(\\.|[^:\\])+)*")
_HOST_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", re.IGNORECASE)


def _read_host(value: Any, folder: Path) -> str:
    if not isinstance(value, str) or not _HOST_NAME.fullmatch(value):
        raise _Unfit(value)
    return value.lower()


def _is_place(text: str) -> bool:
    try:
        Place.parse(text)
    except ValueError:
        return False
    return True


def _read_line(value: Any, folder: Path) -> str:
    if not isinstance(value, str) or not value.strip() or "\n" in value or "\r" in value:
        raise _Unfit(value)
    return value


def _read_client(value: Any, folder: Path) -> str:
    key = value.rpartition(":")[2].upper() if isinstance(value, str) else ""
    if not _X25519_FORM.fullmatch(key):
        raise _Unfit(value)
    return key


_X25519_FORM = re.compile(r"[A-Z2-7]{52}")
_LINES = _list_of(_Kind("", _read_line), 'a list of lines as ["UseBridges 1"]')
_CLIENTS = _list_of(
    _Kind("", _read_client), "a list of X25519 public keys, each of 52 characters of base32"
)
_TOR_PLACE = _text(
    'where Tor listens, as "tcp:127.0.0.1:9051" or "unix:/run/tor/control"', _is_place
)
_TOR_PLACE_OR_NONE = _text(
    'where Tor listens, as "tcp:127.0.0.1:9050" or "unix:/run/tor/socks", or ""',
    lambda text: text == "" or _is_place(text),
)


def _read_password(value: Any, folder: Path) -> str:
    if not isinstance(value, str):
        raise _Unfit(value)
    if value and not 8 <= len(value) <= 200:
        raise _Unfit("...", f"it has {len(value)}")
    return value


_ENDPOINT = _text('an endpoint string such as "tcp:43110:interface=127.0.0.1"', _is_endpoint)
_ENDPOINT_OR_NONE = _text(
    'an endpoint string such as "tcp:26552", or ""',
    lambda text: text == "" or _is_endpoint(text),
)
_HOSTS = _list_of(_Kind("", _read_host), 'a list of host names without port, as ["zero.example"]')
_PEERS = _list_of(_Kind("", _read_peer), 'a list of peers as ["192.0.2.1:26552"]')
_TRACKERS = _list_of(
    _Kind("", _read_tracker),
    'a list of trackers as ["zero://192.0.2.1:26552", "udp://t.example:80"]',
)
_PATH = _Kind("a path", _read_path)
_PATH_OR_NONE = _Kind(
    'a path, or ""', lambda value, folder: None if value == "" else _read_path(value, folder)
)
_PASSWORD = _Kind('a password of 8 to 200 characters, or ""', _read_password)
_SWITCH = _Kind("true or false", _read_bool)
_SITE = _text("the address of a site", is_site_address)
_BYTES = _whole(1024, 1 << 30, "bytes")


# The options


def _option(kind: _Kind, text: str) -> dict[str, Any]:
    return {"kind": kind, "help": text}


@attrs.frozen
class UiSettings:
    """`[ui]`: where browsers and programs connect."""

    endpoint: str = attrs.field(
        default="tcp:43110:interface=127.0.0.1",
        metadata=_option(_ENDPOINT, "Where pages and the WebSocket are served."),
    )
    hosts: tuple[str, ...] = attrs.field(
        default=(),
        metadata=_option(
            _HOSTS, "Further names a browser may use for this node, for a reverse proxy."
        ),
    )
    max_clients: int = attrs.field(
        default=2000,
        metadata=_option(_whole(1, 100_000), "Most WebSocket clients at a time."),
    )
    message_limit: int = attrs.field(
        default=10_485_760,
        metadata=_option(_BYTES, "Bytes of the largest WebSocket message of a client."),
    )
    unsent_limit: int = attrs.field(
        default=4_194_304,
        metadata=_option(_BYTES, "Bytes that may wait for a client that does not read."),
    )
    password: str = attrs.field(
        default="",
        repr=False,
        metadata=_option(
            _PASSWORD, 'What browsers are asked for before anything else; "" asks for nothing.'
        ),
    )


@attrs.frozen
class PeerSettings:
    """`[peers]`: the other nodes."""

    endpoint: str = attrs.field(
        default="tcp:26552",
        metadata=_option(_ENDPOINT_OR_NONE, 'Where other nodes connect; "" does not listen.'),
    )
    connect: tuple[PeerAddress, ...] = attrs.field(
        default=(),
        metadata=_option(_PEERS, "Peers that are always kept connected."),
    )
    max_connections: int = attrs.field(
        default=500,
        metadata=_option(_whole(1, 100_000), "Most connections to peers, in both directions."),
    )
    tls: bool = attrs.field(
        default=True,
        metadata=_option(_SWITCH, "Dial with TLS first, and accept it; plain always works too."),
    )
    raw_limit: int = attrs.field(
        default=65536,
        # A whole frame may have 5 MiB, and carries more than `raw`.
        metadata=_option(_whole(256, 4 << 20, "bytes"), "Bytes of `raw` in a peer message."),
    )
    requests_in_flight: int = attrs.field(
        default=10_000,
        metadata=_option(_whole(1, 100_000), "Most unanswered requests on one connection."),
    )
    unsent_limit: int = attrs.field(
        default=8_388_608,
        metadata=_option(_BYTES, "Bytes that may wait for a peer that does not read."),
    )
    trackers: tuple[Tracker, ...] = attrs.field(
        default=(),
        metadata=_option(_TRACKERS, "Whom to tell of our sites, and to ask for their peers."),
    )
    serve_tracker: bool = attrs.field(
        default=False,
        metadata=_option(_SWITCH, "Be a zero:// tracker for other nodes."),
    )
    local_discovery: bool = attrs.field(
        default=False,
        metadata=_option(_SWITCH, "Find other nodes on the local network, by UDP broadcasts."),
    )
    outgoing: int = attrs.field(
        default=8,
        metadata=_option(
            _whole(0, 1000), "Connections that are kept for each site; 0 dials nobody unasked."
        ),
    )
    allow_private: bool = attrs.field(
        default=False,
        metadata=_option(
            _SWITCH, "Dial private addresses that other peers name; for networks of your own."
        ),
    )
    relay_sends: bool = attrs.field(
        default=True,
        metadata=_option(_SWITCH, "Carry messages between two peers that cannot dial one another."),
    )
    map_port: bool = attrs.field(
        default=False,
        metadata=_option(_SWITCH, "Ask the router (NAT-PMP, UPnP) to let peers in."),
    )


@attrs.frozen
class UserSettings:
    """`[users]`: whose keys the node has."""

    passphrase_file: Path | None = attrs.field(
        default=None,
        metadata=_option(
            _PATH_OR_NONE, 'A file with the passphrase that users.json is under; "" for none.'
        ),
    )


@attrs.frozen
class TorSettings:
    """`[tor]`: onions."""

    mode: Literal["off", "on", "only"] = attrs.field(
        default="off",
        metadata=_option(
            _choice("off", "on", "only"),
            "Onions beside the clear net, or nothing but onions.",
        ),
    )
    control: str = attrs.field(
        default="tcp:127.0.0.1:9051",
        metadata=_option(_TOR_PLACE, "The control port of Tor."),
    )
    socks: str = attrs.field(
        default="",
        metadata=_option(_TOR_PLACE_OR_NONE, 'Its SOCKS port; with "" Tor is asked.'),
    )
    password: str = attrs.field(
        default="",
        metadata=_option(
            _text("a text", lambda text: len(text) <= 255),
            "For a control port that wants one; a cookie needs none.",
        ),
    )
    launch: bool = attrs.field(
        default=False,
        metadata=_option(_SWITCH, "Start a Tor of this node's own instead."),
    )
    binary: str = attrs.field(
        default="tor",
        metadata=_option(_text("a program", bool), "The program that tor.launch starts."),
    )
    launch_options: tuple[str, ...] = attrs.field(
        default=(),
        metadata=_option(_LINES, "Further lines for the torrc of that Tor."),
    )
    port: int = attrs.field(
        default=26552,
        metadata=_option(_whole(1, 65535), "At which others reach the onions of this node."),
    )
    share_onion: bool = attrs.field(
        default=False,
        metadata=_option(
            _SWITCH, "One onion for all sites; then others can tell that one node has them."
        ),
    )
    push_own: bool = attrs.field(
        default=False,
        metadata=_option(_SWITCH, "Send what this node's own clients say through Tor only."),
    )
    clients: tuple[str, ...] = attrs.field(
        default=(),
        metadata=_option(
            _CLIENTS, "Keys of those who alone can reach the onions; none lets everybody."
        ),
    )


@attrs.frozen
class LogSettings:
    """`[log]`."""

    format: Literal["text", "json"] = attrs.field(
        default="text",
        metadata=_option(_choice("text", "json"), "Lines for people, or one JSON object a line."),
    )
    level: Literal["debug", "info", "warn", "error"] = attrs.field(
        default="info",
        metadata=_option(
            _choice("debug", "info", "warn", "error"), "The least severe entries that are written."
        ),
    )


@attrs.frozen
class SiteSettings:
    """One `[[site]]`."""

    address: str = attrs.field(metadata=_option(_SITE, "The site's address; required."))
    path: Path | None = attrs.field(
        default=None,
        metadata=_option(_PATH, "A directory to serve; without it the site is fetched from peers."),
    )
    size_limit: int = attrs.field(
        default=10_000_000,
        metadata=_option(_whole(1, 1 << 40, "bytes"), "Bytes that the site's files may have."),
    )


def _default_data_dir() -> Path:
    return platformdirs.user_data_path("zeromsg")


@attrs.frozen
class Settings:
    """Everything a node can be told.

    data_dir, sites[].path: absolute.
    """

    data_dir: Path = attrs.field(
        factory=_default_data_dir,
        metadata=_option(_PATH, "Where keys, sites and the database are kept."),
    )
    ui: UiSettings = attrs.field(factory=UiSettings, metadata={"table": UiSettings})
    peers: PeerSettings = attrs.field(factory=PeerSettings, metadata={"table": PeerSettings})
    tor: TorSettings = attrs.field(factory=TorSettings, metadata={"table": TorSettings})
    log: LogSettings = attrs.field(factory=LogSettings, metadata={"table": LogSettings})
    users: UserSettings = attrs.field(factory=UserSettings, metadata={"table": UserSettings})
    sites: tuple[SiteSettings, ...] = attrs.field(
        default=(), metadata={"tables": SiteSettings, "key": "site"}
    )


def _keys(cls: type[attrs.AttrsInstance]) -> "dict[str, attrs.Attribute[Any]]":
    """The keys of a table as TOML spells them, in order."""
    return {field.metadata.get("key", field.name): field for field in attrs.fields(cls)}


# Reading


def load(path: Path | None, overrides: Sequence[str] = ()) -> Settings:
    """Read the configuration file, if there is one, then apply overrides in order.

    overrides: `"peers.tls=false"`; the value is TOML, or else taken as a string.
    Relative paths start from the file's folder, those in overrides from the
    working directory.
    Raises ConfigError.
    """
    return read(path, overrides)[0]


@attrs.frozen
class Places:
    """Where keys were given, for what is only found wrong when all are read."""

    name: str = ""
    lines: Mapping[KeyPath, int] = attrs.field(factory=dict)
    overrides: Mapping[KeyPath, str] = attrs.field(factory=dict)

    def of(self, path: KeyPath) -> str:
        """`zeromsg.toml line 7: `, to begin a sentence; "" for a key that was not given."""
        if path in self.overrides:
            return f"{self.overrides[path]}: "
        return f"{self.name} line {self.lines[path]}: " if path in self.lines else ""


def read(path: Path | None, overrides: Sequence[str] = ()) -> tuple[Settings, Places]:
    """As `load`, and where each key was given. Raises ConfigError."""
    settings, places = Settings(), Places()
    if path is not None:
        try:
            text = path.read_bytes().decode()
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            raise ConfigError(f"{path} line {line}: expected UTF-8 text") from error
        settings = parse(text, str(path), path.absolute().parent)
        places = Places(str(path), line_numbers(text))
    for override in overrides:
        settings = _overridden(settings, override)
    given: dict[KeyPath, str] = {
        tuple(override.partition("=")[0].strip().split(".")): f"override {_shown(override)}"
        for override in overrides
    }
    return settings, attrs.evolve(places, overrides=given)


def parse(text: str, name: str, folder: Path) -> Settings:
    """Read the text of a configuration file.

    name: what errors call the file; folder: where relative paths start.
    Raises ConfigError.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{name}: expected TOML: {error}") from error
    return _read_table(Settings, document, _Source(name, folder, line_numbers(text)), ())


@attrs.frozen
class _Source:
    """Where values come from: for the words of errors and for relative paths."""

    name: str
    folder: Path
    lines: Mapping[KeyPath, int]

    def error(self, path: KeyPath, text: str) -> ConfigError:
        where = self.name
        for length in range(len(path), 0, -1):
            # Keys inside an inline table are found under the key that holds it.
            if path[:length] in self.lines:
                where += f" line {self.lines[path[:length]]}"
                break
        return ConfigError(f"{where}: {_spelled(path)}: {text}")

    def unfit(self, path: KeyPath, expected: str, found: object, reason: str = "") -> ConfigError:
        more = f" ({reason})" if reason else ""
        return self.error(path, f"expected {expected}, found {_shown(found)}{more}")


def _read_table(cls: type[_Table], table: Any, source: _Source, path: KeyPath) -> _Table:
    if not isinstance(table, dict):
        raise source.unfit(path, "a table", table)
    keys = _keys(cls)
    for name in table:
        if name not in keys:
            raise source.error((*path, name), f"unknown key; {_suggestion(name, keys)}")
    values = {}
    for name, field in keys.items():
        if name in table:
            values[field.name] = _read_value(field, table[name], source, (*path, name))
        elif field.default is attrs.NOTHING:
            expected = field.metadata["kind"].expected
            raise source.error((*path, name), f"expected {expected}, found nothing")
    return cls(**values)


def _read_value(
    field: "attrs.Attribute[Any]", value: Any, source: _Source, path: KeyPath
) -> object:
    if "table" in field.metadata:
        return _read_table(field.metadata["table"], value, source, path)
    if "tables" in field.metadata:
        return _read_sites(value, source, path)
    kind: _Kind = field.metadata["kind"]
    try:
        return kind.read(value, source.folder)
    except _Unfit as error:
        raise source.unfit(path, kind.expected, error.found, str(error)) from None


def _read_sites(value: Any, source: _Source, path: KeyPath) -> tuple[SiteSettings, ...]:
    if not isinstance(value, list):
        raise source.unfit(path, "[[site]] tables", value)
    sites: dict[str, SiteSettings] = {}
    for index, table in enumerate(value):
        site = _read_table(SiteSettings, table, source, (*path, index))
        if site.address in sites:
            raise source.error((*path, index, "address"), f"{site.address} stands here twice")
        sites[site.address] = site
    return tuple(sites.values())


def _overridden(settings: Settings, override: str) -> Settings:
    source = _Source(f"override {_shown(override)}", Path.cwd(), {})
    key, equals, text = override.partition("=")
    key = key.strip()
    path = tuple(key.split("."))
    if not equals:
        raise ConfigError(f'{source.name}: expected "key=value"')
    if key not in _override_keys():
        raise source.error(path, f"unknown key; {_suggestion(key, _override_keys())}")
    section, _, name = key.rpartition(".")
    table = getattr(settings, section) if section else settings
    field = _keys(type(table))[name]
    changed = _with(table, field.name, _read_value(field, _override_value(text), source, path))
    return _with(settings, section, changed) if section else changed


def _with(table: Any, name: str, value: object) -> Any:
    return attrs.evolve(table, **{name: value})


def _override_value(text: str) -> object:
    """A TOML value, or, as most text on a command line is none, the text itself."""
    try:
        document = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    # More than one key: a line break in the text began a second one.
    return document["value"] if len(document) == 1 else text


# The words of errors


def _suggestion(name: str, known: Mapping[str, object] | Sequence[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    return f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"


def _spelled(path: KeyPath) -> str:
    """The path as TOML writes it; which of several [[site]] it is, the line says."""
    names = (part for part in path if isinstance(part, str))
    return ".".join(name if BARE_KEY.fullmatch(name) else _shown(name) for name in names)


_SHOWN_LENGTH = 80


def _shown(value: object) -> str:
    """A value as TOML might write it, on one line and not too long."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, int) and value.bit_length() > 64:
        return "a number beyond all bounds"  # which Python may refuse to print
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, float):
        return repr(value)
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_LENGTH else f'{text[:_SHOWN_LENGTH]}..."'


# What there is, for documentation and command lines


@attrs.frozen
class Described:
    """One option.

    key: as an override spells it; a key of a [[site]] table begins with `site.`.
    default: TOML text, or None where there is no default.
    expected: completes the sentence "expected ...".
    """

    key: str
    default: str | None
    required: bool
    expected: str
    help: str


def describe() -> list[Described]:
    """Every option, in the order of the example file."""
    return list(_described(Settings, ""))


def _described(cls: type[attrs.AttrsInstance], prefix: str) -> Iterator[Described]:
    for key, field in _keys(cls).items():
        inner = field.metadata.get("table") or field.metadata.get("tables")
        if inner is not None:
            yield from _described(inner, f"{prefix}{key}.")
            continue
        yield Described(
            prefix + key,
            _default_text(field.default),
            field.default is attrs.NOTHING,
            field.metadata["kind"].expected,
            field.metadata["help"],
        )


def _default_text(default: object) -> str | None:
    if default is attrs.NOTHING or default is None:
        return None
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        path = str(default.factory())  # type: ignore[attr-defined]
        home = str(Path.home())
        return json.dumps("~" + path[len(home) :] if path.startswith(home + "/") else path)
    return json.dumps(default)


def _override_keys() -> list[str]:
    """The keys an override can name: all, and the list of sites as a whole."""
    return [each.key for each in describe() if not each.key.startswith("site.")] + ["site"]
