"""What the service does before and beside the node itself."""

import os

import pytest
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.task import Clock

from zeromsg.errors import ConfigError
from zeromsg.service.assembly import (
    NotStarted,
    Options,
    TwistdService,
    _place,
    lock_folder,
    source_host,
    status_token,
)
from zeromsg.service.config import Settings


def test_a_data_directory_has_one_node(tmp_path):
    held = lock_folder(tmp_path)
    with pytest.raises(ConfigError, match="another node"):
        lock_folder(tmp_path)
    held.close()
    lock_folder(tmp_path).close()


def test_the_token_is_made_once_and_for_its_owner(tmp_path):
    token = status_token(tmp_path)
    assert len(token) == 64
    assert status_token(tmp_path) == token
    assert (tmp_path / "status.token").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("left", [b"", b"abc", b"\xff" * 64])
def test_half_a_token_is_none(tmp_path, left):
    (tmp_path / "status.token").write_bytes(left)
    token = status_token(tmp_path)
    assert len(token) == 64 and token.isascii() and status_token(tmp_path) == token


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_writes_belongs_to_whom_the_folder_belongs_to(tmp_path):
    os.chown(tmp_path, 12345, 12346)
    status_token(tmp_path)
    status = (tmp_path / "status.token").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (12345, 12346, 0o600)


@pytest.mark.parametrize(
    ("endpoint", "host"),
    [
        ("tcp:26552", None),
        ("tcp:26552:interface=0.0.0.0", None),
        ("tcp:26552:interface=127.0.0.2", "127.0.0.2"),
        (r"tcp6:26552:interface=\:\:1", "::1"),
        (r"tcp6:26552:interface=\:\:", None),
        ("unix:/run/peers", None),
        ("", None),
    ],
)
def test_dialling_starts_from_the_one_address_that_is_listened_on(endpoint, host):
    assert source_host(endpoint) == host


def test_a_bad_configuration_ends_twistd_with_one_sentence(tmp_path, capsys):
    (tmp_path / "zeromsg.toml").write_text("[peers]\nendpont = 1\n")
    with pytest.raises(SystemExit) as ended:
        Options().parseOptions(["--config", str(tmp_path / "zeromsg.toml")])
    assert ended.value.code == 2
    text = capsys.readouterr().err
    assert "line 2: peers.endpont: unknown key" in text and text.count("\n") == 1


def test_a_start_that_fails_reaches_twistd_as_exit_code_1(tmp_path):
    (tmp_path / "file").write_text("")
    service = TwistdService(Settings(data_dir=tmp_path / "file" / "data"), Clock())
    with pytest.raises(NotStarted) as ended:
        service.startService()
    assert ended.value.code == 1
    # As twistd needs it: what is no Exception leaves its pid file behind.
    assert isinstance(ended.value, Exception)


def test_where_clients_connect_is_said_of_every_kind_of_socket():
    assert _place(IPv4Address("TCP", "127.0.0.1", 43110)) == "127.0.0.1:43110"
    assert _place(UNIXAddress(b"/run/ui.sock")) == "unix:/run/ui.sock"
