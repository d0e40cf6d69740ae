"""What is found wrong with a configuration when all of it is read, with its line."""

import pytest
from twisted.internet.testing import MemoryReactor

from zeromsg.errors import ConfigError
from zeromsg.service.checking import load_to_run

SITE = "1HeLLo4uzjaLetFx6NH3PMwFP3qbRbTf3D"


@pytest.fixture
def check(tmp_path):
    def checked(text, *overrides):
        path = tmp_path / "zeromsg.toml"
        path.write_text(text)
        return load_to_run(MemoryReactor(), path, overrides)

    return checked


def test_what_can_be_used_passes(check, tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "content.json").write_text("{}")
    settings = check(f'[[site]]\naddress = "{SITE}"\npath = "site"\n', "peers.tls=false")
    assert settings.sites[0].path == tmp_path / "site" and not settings.peers.tls
    check('[peers]\nendpoint = ""\n[ui]\nendpoint = "unix:/run/zeromsg"\n')


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[ui]\n\nendpoint = "foo:1"', 'zeromsg.toml line 3: ui.endpoint = "foo:1" cannot be used'),
        ('[peers]\nendpoint = "foo:1"', "zeromsg.toml line 2: peers.endpoint"),
        (
            '[ui]\nendpoint = "ssl:43110:privateKey=/none.pem:certKey=/none.pem"',
            "zeromsg.toml line 2: ui.endpoint",
        ),
        (
            '[tor]\nmode = "on"\nlaunch = true\nbinary = "no-such-tor"',
            r'zeromsg.toml line 4: tor.binary = "no-such-tor": there is no such program',
        ),
        (
            f'[[site]]\naddress = "{SITE}"\npath = "none"',
            "zeromsg.toml line 3: site.path: .*none has no content.json",
        ),
        (
            '[peers]\nmap_port = true\nendpoint = ""\n[tor]\nmode = "only"',
            "\n  .*zeromsg.toml line 2: peers.map_port = true",
        ),
    ],
)
def test_what_cannot_be_used_is_named_with_its_line(check, text, words):
    with pytest.raises(ConfigError, match=words):
        check(text)


def test_an_override_is_named_instead_of_the_line_that_it_replaces(check):
    with pytest.raises(ConfigError, match=r'override "ui.endpoint=foo:1": ui.endpoint'):
        check('[ui]\nendpoint = "tcp:1"', "ui.endpoint=foo:1")


def test_a_default_has_no_line(check):
    with pytest.raises(ConfigError, match=r'\n  peers.endpoint = "tcp:26552": listens'):
        check('[tor]\nmode = "only"')
