"""The configuration: what it accepts, what it refuses, and in which words."""

import re
import tomllib
from pathlib import Path

import attrs
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from zeromsg.errors import ConfigError
from zeromsg.service.config import (
    LogSettings,
    PeerSettings,
    Settings,
    SiteSettings,
    TorSettings,
    UiSettings,
    UserSettings,
    describe,
    load,
    parse,
)
from zeromsg.service.toml_lines import line_numbers
from zeromsg.wire.trackers import Tracker
from zeromsg.wire.values import PeerAddress

EXAMPLE = Path(__file__).parents[2] / "etc" / "zeromsg.toml"
SITE = "1HeLLo4uzjaLetFx6NH3PMwFP3qbRbTf3D"
OTHER_SITE = "1Fwms8Gymux3E7bks7fhDgxdUxFwqdxZSx"
FOLDER = Path("/etc/zeromsg")


def read(text: str) -> Settings:
    return parse(text, "zeromsg.toml", FOLDER)


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return str(caught.value)


def override_refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(None, overrides)
    return str(caught.value)


# Defaults and values


def test_nothing_gives_the_defaults():
    assert load(None) == read("") == Settings()


def test_the_defaults_are_the_documented_ones():
    settings = Settings()
    assert settings.ui == UiSettings("tcp:43110:interface=127.0.0.1", (), 2000, 10485760, 4194304)
    assert settings.peers == PeerSettings(
        "tcp:26552", (), 500, True, 65536, 10_000, 8388608, (), False, False, 8, False, True, False
    )
    assert settings.log == LogSettings("text", "info")
    assert settings.users == UserSettings(None)
    assert settings.sites == ()


def test_settings_are_frozen():
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Settings().ui.max_clients = 5  # type: ignore[misc]


def test_every_key_is_read():
    settings = read(
        f"""
        data_dir = "/srv/zeromsg"
        [ui]
        endpoint = "unix:/run/zeromsg.sock"
        hosts = ["Zero.Example", "zero"]
        max_clients = 3
        message_limit = 2048
        unsent_limit = 4096
        [peers]
        endpoint = ""
        connect = ["127.0.0.1:26553", "[2001:DB8::1]:26552"]
        max_connections = 7
        tls = false
        raw_limit = 512
        requests_in_flight = 9
        unsent_limit = 8192
        trackers = ["zero://192.0.2.1:26552", "udp://tracker.example:6969"]
        serve_tracker = true
        local_discovery = true
        outgoing = 3
        allow_private = true
        relay_sends = false
        map_port = true
        [tor]
        mode = "on"
        control = "unix:/run/tor/control"
        socks = "127.0.0.1:9150"
        password = "open"
        launch = true
        binary = "/opt/tor"
        launch_options = ["UseBridges 1"]
        port = 80
        share_onion = true
        push_own = true
        clients = ["descriptor:x25519:{"a" * 52}"]
        [log]
        format = "json"
        level = "debug"
        [users]
        passphrase_file = "secret"
        [[site]]
        address = "{SITE}"
        path = "/srv/site"
        size_limit = 5
        [[site]]
        address = "{OTHER_SITE}"
        """
    )
    assert settings == Settings(
        Path("/srv/zeromsg"),
        UiSettings("unix:/run/zeromsg.sock", ("zero.example", "zero"), 3, 2048, 4096),
        PeerSettings(
            "",
            (PeerAddress("127.0.0.1", 26553), PeerAddress("2001:db8::1", 26552)),
            7,
            False,
            512,
            9,
            8192,
            (
                Tracker("zero", "192.0.2.1", 26552, ""),
                Tracker("udp", "tracker.example", 6969, ""),
            ),
            True,
            True,
            3,
            True,
            False,
            True,
        ),
        TorSettings(
            "on",
            "unix:/run/tor/control",
            "127.0.0.1:9150",
            "open",
            True,
            "/opt/tor",
            ("UseBridges 1",),
            80,
            True,
            True,
            ("A" * 52,),
        ),
        LogSettings("json", "debug"),
        UserSettings(FOLDER / "secret"),
        (SiteSettings(SITE, Path("/srv/site"), 5), SiteSettings(OTHER_SITE, None, 10_000_000)),
    )


def test_relative_paths_start_from_the_folder_of_the_file(tmp_path, monkeypatch):
    (tmp_path / "etc").mkdir()
    file = tmp_path / "etc" / "node.toml"
    file.write_text(f'data_dir = "data"\n[[site]]\naddress = "{SITE}"\npath = "../sites/a"')
    monkeypatch.chdir(tmp_path)
    settings = load(Path("etc/node.toml"))
    assert settings.data_dir == tmp_path / "etc" / "data"
    assert settings.sites[0].path == tmp_path / "etc" / ".." / "sites" / "a"


def test_home_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/alice")
    assert read('data_dir = "~/zeromsg"').data_dir == Path("/home/alice/zeromsg")


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp:0",
        "tcp:65535",
        "tcp:1:backlog=3:interface=0.0.0.0",
        r"tcp6:1:interface=2001\:db8\:\:1",
        "unix:/run/a",
        "onion:80",
        "systemd:domain=INET:index=0",
        "haproxy:tcp:80",
    ],
)
def test_endpoints(endpoint):
    assert read(f"ui.endpoint = '{endpoint}'").ui.endpoint == endpoint


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "tcp",
        "tcp:",
        "tcp:65536",
        "tcp:http",
        "tcp:1:interfaces=127.0.0.1",
        "tcp:1:interface=",
        "tcp6:1:interface=::1",
        "unix:",
        "43110",
        ":43110",
        "127.0.0.1:43110",
        "on ion:80",
    ],
)
def test_what_is_no_endpoint(endpoint):
    assert "ui.endpoint: expected an endpoint string" in refusal(f"ui.endpoint = '{endpoint}'")


# Refusals


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            'peers.max_connections = "many"',
            'peers.max_connections: expected a whole number from 1 to 100000, found "many"',
        ),
        (
            "peers.max_connections = 0",
            "peers.max_connections: expected a whole number from 1 to 100000, found 0",
        ),
        (
            "ui.max_clients = true",
            "ui.max_clients: expected a whole number from 1 to 100000, found true",
        ),
        (
            "ui.max_clients = 1.0",
            "ui.max_clients: expected a whole number from 1 to 100000, found 1.0",
        ),
        (
            "peers.raw_limit = 5_000_000",
            "peers.raw_limit: expected a whole number of bytes from 256 to 4194304, found 5000000",
        ),
        (
            f"ui.max_clients = 0x{'f' * 5000}",
            "ui.max_clients: expected a whole number from 1 to 100000,"
            " found a number beyond all bounds",
        ),
        ("peers.tls = 1", "peers.tls: expected true or false, found 1"),
        ('log.format = "xml"', 'log.format: expected "text" or "json", found "xml"'),
        (
            "log.level = 1979-05-27",
            'log.level: expected "debug" or "info" or "warn" or "error", found 1979-05-27',
        ),
        ("data_dir = []", "data_dir: expected a path, found a list of 0"),
        ('data_dir = ""', 'data_dir: expected a path, found ""'),
        (r'data_dir = "a\u0000b"', r'data_dir: expected a path, found "a\u0000b"'),
        (
            'data_dir = "~nobody-of-this-name/a"',
            'data_dir: expected a path, found "~nobody-of-this-name/a"',
        ),
        ("ui = 5", "ui: expected a table, found 5"),
        ("[[ui]]", "ui: expected a table, found a list of 1"),
        ("[site]", "site: expected [[site]] tables, found a table"),
        ("site = [5]", "site: expected a table, found 5"),
        (
            'ui.hosts = "zero.example"',
            'ui.hosts: expected a list of host names without port, as ["zero.example"],'
            ' found "zero.example"',
        ),
        (
            'ui.hosts = ["zero.example:80"]',
            'ui.hosts: expected a list of host names without port, as ["zero.example"],'
            ' found "zero.example:80"',
        ),
    ],
)
def test_a_wrong_value_says_where_and_what_was_expected(line, expected):
    assert refusal(f"\n\n{line}") == f"zeromsg.toml line 3: {expected}"


@pytest.mark.parametrize("peer", ["1.2.3.4", "somewhere:80", "1.2.3.4:70000", "::1:5"])
def test_a_wrong_peer_says_why(peer):
    with pytest.raises(ValueError) as reason:
        PeerAddress.parse(peer)
    assert refusal(f'[peers]\nconnect = ["127.0.0.1:1", "{peer}"]') == (
        'zeromsg.toml line 2: peers.connect: expected a list of peers as ["192.0.2.1:26552"],'
        f' found "{peer}" ({reason.value})'
    )


def test_a_peer_that_cannot_be_dialled_is_refused():
    assert "port 0" in refusal('peers.connect = ["127.0.0.1:0"]')
    assert "found 5" in refusal("peers.connect = [5]")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[peers]\nmax_conections = 5",
            "line 2: peers.max_conections: unknown key; did you mean max_connections?",
        ),
        ("# hello\n\n[peer]\n", "line 3: peer: unknown key; did you mean peers?"),
        ("[log.more]", "line 1: log.more: unknown key; expected one of format, level"),
        ("[peers]\ntracker = []", "line 2: peers.tracker: unknown key; did you mean trackers?"),
        ("[i2p]\nmode = 'off'", "line 1: i2p: unknown key; "),
        ('"odd\\nkey" = 1', 'line 1: "odd\\nkey": unknown key; '),
        (
            f"[[site]]\naddress = '{SITE}'\n[[site]]\naddress = '{OTHER_SITE}'\nsize = 1",
            "line 5: site.size: unknown key; ",
        ),
    ],
)
def test_an_unknown_key_names_the_nearest_one(text, expected):
    assert refusal(text).startswith(f"zeromsg.toml {expected}")


def test_a_site_needs_an_address():
    text = f"[[site]]\naddress = '{SITE}'\n\n[[site]]\npath = 'a'"
    assert refusal(text) == (
        "zeromsg.toml line 4: site.address: expected the address of a site, found nothing"
    )
    assert 'found "1short"' in refusal("[[site]]\naddress = '1short'")


def test_a_site_named_twice_is_refused():
    text = f"[[site]]\naddress = '{SITE}'\n[[site]]\naddress = '{SITE}'"
    assert refusal(text) == f"zeromsg.toml line 4: site.address: {SITE} stands here twice"


def test_syntax_errors_keep_their_place():
    assert refusal("data_dir = 'a'\n[ui\n").startswith("zeromsg.toml: expected TOML: ")
    assert "at line 2, column 4" in refusal("data_dir = 'a'\n[ui\n")


def test_deep_nesting_is_refused():
    assert "expected TOML" in refusal(f"a = {'[' * 100_000}")


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match=r"missing\.toml: cannot be read: No such file"):
        load(tmp_path / "missing.toml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path)
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b"# one\n# caf\xe9\n")
    with pytest.raises(ConfigError, match=r"latin\.toml line 2: expected UTF-8 text"):
        load(latin)


def test_the_file_is_named_as_it_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("node.toml").write_text("\ntls = true")
    with pytest.raises(ConfigError, match=r"^node\.toml line 2: tls: unknown key; "):
        load(Path("node.toml"))


# Lines


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[ui]\nmax_clients = 0", 2),
        ("[ui]\r\n\r\nmax_clients = 0\r\n", 3),
        ('[ "ui" ]\n\n"max_clients"\t= 0', 3),
        ("['ui']\n# max_clients = 1\n'max_clients' = 0 # max_clients = 2", 3),
        ('"\\u0075i"."max_clients" = 0', 1),
        ('[ui]\nendpoint = "tcp:1:interface=\\"#[["\nmax_clients = 0', 3),
        ('ui.hosts = [ # ["\n"a", # ]\n"b",\n]\nui.max_clients = 0', 5),
        ("[ui]\nhosts = [\"\"\"a\\\n   b\"\"\",\n'''\nc''']\nmax_clients = 0", 6),
        ('ui = { hosts = ["max_clients"], max_clients = 0 }', 1),
        ("[log]\nlevel = 'info'\n[ui]\n[peers]\nendpoint = ''\n[log.x]\n", 6),
        ('data_dir = """\n[ui]\nmax_clients = 5"""""\n[ui]\nmax_clients = 0', 5),
        ("data_dir = '''\n[ui]\nmax_clients = 5'''''\n[ui]\nmax_clients = 0", 5),
        ("peers.tls = true\nui.hosts = [\n[\n],\n]", 2),
    ],
)
def test_the_line_is_found(text, line):
    tomllib.loads(text)
    assert refusal(text).startswith(f"zeromsg.toml line {line}: ")


def test_the_line_of_each_site_is_found():
    sites = f"[[site]]\naddress = '{SITE}'\n\n[[ site ]]\naddress = '{OTHER_SITE}'\n"
    assert "line 6: site.size_limit" in refusal(sites + "size_limit = 0")
    inline = f"\nsite = [\n{{address = '{SITE}'}},\n{{address = '{OTHER_SITE}', size_limit = 0}}]"
    assert "line 2: site.size_limit" in refusal(inline)


# Overrides


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("peers.endpoint=tcp:1234", PeerSettings(endpoint="tcp:1234")),
        ("peers.endpoint='tcp:1234'", PeerSettings(endpoint="tcp:1234")),
        ("peers.endpoint=", PeerSettings(endpoint="")),
        (" peers.tls = false ", PeerSettings(tls=False)),
        ("peers.max_connections=5", PeerSettings(max_connections=5)),
        ('peers.connect=["1.2.3.4:5"]', PeerSettings(connect=(PeerAddress("1.2.3.4", 5),))),
    ],
)
def test_an_override_changes_one_key(override, expected):
    assert load(None, [override]) == attrs.evolve(Settings(), peers=expected)


def test_overrides_apply_in_order_and_after_the_file(tmp_path):
    file = tmp_path / "node.toml"
    file.write_text("[ui]\nmax_clients = 5\nmessage_limit = 2048")
    settings = load(file, ["ui.max_clients=6", "ui.max_clients=7"])
    assert settings.ui == UiSettings(max_clients=7, message_limit=2048)


def test_a_path_in_an_override_starts_from_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "node.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    assert load(Path("etc/node.toml"), ["data_dir=data"]).data_dir == tmp_path / "data"


def test_sites_are_overridden_as_a_whole():
    settings = load(None, [f"site=[{{address = '{SITE}', size_limit = 5}}]"])
    assert settings.sites == (SiteSettings(SITE, None, 5),)
    assert load(None, ["site=[]"]).sites == ()


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("peers.tls", 'override "peers.tls": expected "key=value"'),
        (
            "peers.max_connections=many",
            'override "peers.max_connections=many": peers.max_connections:'
            ' expected a whole number from 1 to 100000, found "many"',
        ),
        (
            "peers.max_connection=5",
            'override "peers.max_connection=5": peers.max_connection: unknown key;'
            " did you mean peers.max_connections?",
        ),
        ("log.level=info\nother = 1", r'override "log.level=info\nother = 1": log.level: expected'),
        ("log.level='info'\nother = 1", r'override "log.level='),
        ("site=5", 'override "site=5": site: expected [[site]] tables, found 5'),
        ("ui={max_clients = 5}", 'override "ui={max_clients = 5}": ui: unknown key; '),
        ("site.address=a", 'override "site.address=a": site.address: unknown key; '),
        ("=5", 'override "=5": "": unknown key; expected one of data_dir, ui.endpoint'),
        ("..=5", 'override "..=5": "".""."": unknown key; '),
    ],
)
def test_a_wrong_override_is_quoted(override, expected):
    assert override_refusal(override).startswith(expected)


# The example and the description


def uncommented(text: str) -> str:
    return re.sub(r"^#(\w+ = .*)$", r"\1", text, flags=re.MULTILINE)


def site_block(text: str) -> str:
    return "\n".join(re.findall(r"^#     (.*)$", text, flags=re.MULTILINE))


def test_the_example_loads_as_it_is():
    assert load(EXAMPLE) == Settings()


def test_the_example_shows_the_defaults():
    text = uncommented(EXAMPLE.read_text())
    settings = parse(text, "example", FOLDER)
    assert text != EXAMPLE.read_text()
    assert settings.data_dir == Path.home() / ".local" / "share" / "zeromsg"
    assert attrs.evolve(settings, data_dir=Settings().data_dir) == Settings()


def test_the_site_in_the_example_loads():
    settings = read(site_block(EXAMPLE.read_text()))
    assert settings.sites == (SiteSettings(SITE, FOLDER / "sites" / SITE),)


def test_the_example_has_every_key_and_no_other():
    text = EXAMPLE.read_text()
    document = tomllib.loads(uncommented(text) + site_block(text))
    found = set()
    for name, value in document.items():
        for table in value if isinstance(value, list) else [value]:
            found |= {f"{name}.{key}" for key in table} if isinstance(table, dict) else {name}
    assert found == {option.key for option in describe()}


def test_describe_gives_key_default_and_help():
    options = {option.key: option for option in describe()}
    assert len(options) == len(describe()) == 38
    assert options["peers.tls"].default == "true"
    assert options["ui.hosts"].default == "[]"
    assert options["ui.endpoint"].default == '"tcp:43110:interface=127.0.0.1"'
    assert options["site.path"].default is None
    assert [key for key, option in options.items() if option.required] == ["site.address"]
    assert all(option.help.endswith(".") for option in options.values())


def test_described_defaults_are_what_settings_have():
    for option in describe():
        if option.default is not None and not option.key.startswith("site."):
            assert load(None, [f"{option.key}={option.default}"]) == Settings()


# Hostile text

_WORDS = st.sampled_from(
    [
        *("[", "]", "[[", "]]", "{", "}", "=", ".", ",", "\n", "\r\n", " ", "#", "\\"),
        *('"', "'", '"""', "'''", "ui", "peers", "site", "log", "max_clients", "hosts"),
        *("address", "connect", "level", "data_dir", "x", "1", "true", "-", "1979-05-27"),
        *('"a"', "'tcp:1'", f'"{SITE}"', "0xffffffffffffffffffffffff", "nan", "é", "\0"),
    ]
)


@given(st.lists(_WORDS, max_size=40).map("".join) | st.text())
def test_any_text_is_read_or_refused_as_config(text):
    try:
        settings = read(text)
    except ConfigError as error:
        assert str(error).startswith("zeromsg.toml")
    else:
        assert isinstance(settings, Settings)


@given(st.sampled_from([option.key for option in describe()] + ["site", "ui"]), st.text())
def test_any_override_is_taken_or_refused_as_config(key, text):
    try:
        assert isinstance(load(None, [f"{key}={text}"]), Settings)
    except ConfigError as error:
        assert str(error).startswith('override "')


# Valid TOML whose values look like everything else; `%` becomes a number.
_KEYS = st.sampled_from(["k%", '"k%"', "'k%'", '"a.b".k%', "x% . 'k%'", '"=[#" . "k%"'])
_HEADERS = st.sampled_from(
    ["", "# [c]\n", "\n[t%]\n", "[ t% . 'u]' ] # ]\n", "[[l]]\n", "[[ l ]]\r\n[l.m]\n"]
)
_VALUES = st.recursive(
    st.sampled_from(
        [
            *("1", "-1.5e3", "true", "1979-05-27T07:32:00Z", '"]"', "'}'", '"a # b"', "'='"),
            *('"""\n[x]\n\\""" = 1""""', "'''\n'y' = '''''", '"\\\\"', "{ k = '{', 'l' = [1] }"),
        ]
    ),
    lambda inner: st.lists(inner, max_size=3).map(
        lambda items: "[ # ] = \n" + ",\n".join(items) + "\n]"
    ),
    max_leaves=5,
)


@given(st.lists(st.tuples(_HEADERS, _KEYS, _VALUES), max_size=6))
def test_every_key_is_found_on_its_line(blocks):
    text, expected = "", {}
    for number, (header, key, value) in enumerate(blocks):
        text += header.replace("%", str(number))
        expected[f"k{number}"] = text.count("\n") + 1
        text += f"{key.replace('%', str(number))} = {value}\n"
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        assume(False)  # a table that another block made already
    lines = line_numbers(text)
    for path in lines:
        value = document
        for part in path:
            value = value[part]  # type: ignore[index]
    found = {path[-1]: line for path, line in lines.items()}
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize(
    "line",
    ["mode = 'maybe'", "control = 'tcp:localhost:9051'", "socks = 'tcp:127.0.0.1:0'", "port = 0",
     "launch_options = ['']", "clients = ['short']", "clients = 'x'"],
)  # fmt: skip
def test_what_tor_cannot_be_told(line):
    assert "tor." in refusal(f"[tor]\n{line}")
