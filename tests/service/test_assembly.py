"""What the service does before and beside the node itself."""

import pytest

from zeromsg.errors import ConfigError
from zeromsg.service.assembly import lock_folder, source_host, status_token


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
