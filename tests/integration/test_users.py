"""Several users on a node that runs: the command line, and the unmodified Python client."""

import json
import os
import pty
import re
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from zeromsg.testing.processes import wait_for
from zeromsg.testing.zeroframe_client import ZeroFrameProgram

pytestmark = pytest.mark.integration

PROGRAM = [sys.executable, "-m", "zeromsg.cli"]
SEED = "ab" * 32
ADDRESS = "1AfLXDDxEGSpNy3K5TUGGp9wojyWhGU3WT"
"""Of ws_client_python_multiuser.json."""

NOBODY = "1BitcoinEaterAddressDontSendf59kuE"
SECRET = "correct horse"


def zeromsg(*arguments, code=0):
    """Run a command to its end; what it printed."""
    ended = subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=30,
        stdin=subprocess.DEVNULL,
    )
    assert "Traceback" not in ended.stderr
    assert ended.returncode == code, (ended.stdout, ended.stderr)
    return ended.stdout if code == 0 else ended.stdout + ended.stderr


def as_json(*arguments, code=0):
    return json.loads(zeromsg(*arguments, "--json", code=code))


@pytest.fixture
def node(new_node, site):
    return new_node(sites={site.address: site.folder}).start()


@pytest.fixture
def theirs(tmp_path):
    """A users.json of ZeroNet."""
    path = tmp_path / "zeronet" / "users.json"
    path.parent.mkdir()
    document = {ADDRESS: {"master_seed": SEED, "sites": {}, "certs": {}, "settings": {}}}
    path.write_text(json.dumps(document))
    return path


def secret_file(tmp_path, text=SECRET, name="secret"):
    path = tmp_path / name
    path.write_text(text + "\n")
    path.chmod(0o600)
    return path


# Commands, with a node and without one


def test_users_of_a_running_node(node, site, theirs, tmp_path):
    where = ("--config", node.config)
    made = as_json("user", "new", "bob", *where)
    assert made["name"] == "bob"
    assert zeromsg("user", "new", "bob", *where, code=1).endswith(
        "invalid: there is a user bob already\n"
    )
    assert as_json("user", "import", theirs, *where) == [
        {"master_address": ADDRESS, "outcome": "added", "reason": ""}
    ]
    assert zeromsg("user", "import", theirs, *where) == f"{ADDRESS}: already here\n"
    listed = as_json("user", "list", *where)
    assert [entry["name"] for entry in listed] == ["", "bob", ""]
    shown = zeromsg("user", "list", *where)
    for entry in listed:
        assert entry["master_address"] in shown
    assert SEED not in shown

    out = tmp_path / "export.json"
    zeromsg("user", "export", "1AfLXD", out, *where)
    assert json.loads(out.read_text()) == json.loads(theirs.read_text())
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert "--force replaces it" in zeromsg("user", "export", out, *where, code=1)
    assert list(json.loads(out.read_text())) == [ADDRESS]
    zeromsg("user", "export", out, "--force", *where)
    assert len(json.loads(out.read_text())) == 3
    assert stat.S_IMODE(out.stat().st_mode) == 0o600

    # What the node did is on the disk, and it knows of it after a restart.
    assert node.stop() == 0
    offline = as_json("user", "list", *where)
    assert offline == listed
    node.start()
    assert as_json("user", "list", *where) == listed


def test_users_without_a_node(tmp_path, theirs):
    where = ("--data-dir", tmp_path / "data")
    assert "there is no data directory" in zeromsg("user", "list", *where, code=2)
    assert not (tmp_path / "data").exists()
    assert as_json("user", "new", "bob", *where)["default"] is True
    assert as_json("user", "import", theirs, *where)[0]["outcome"] == "added"
    users = tmp_path / "data" / "users.json"
    assert len(json.loads(users.read_text())) == 2
    assert stat.S_IMODE(users.stat().st_mode) == 0o600
    changed = json.loads(theirs.read_text())
    changed[ADDRESS]["certs"] = {"x.bit": {}}
    theirs.write_text(json.dumps(changed))
    before = users.read_text()
    assert "refused: this user is here with other keys" in zeromsg(
        "user", "import", theirs, *where, code=1
    )
    assert users.read_text() == before
    out = tmp_path / "export.json"
    zeromsg("user", "export", "bob", out, *where)
    assert len(json.loads(out.read_text())) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["user"],
        ["user", "export"],
        ["user", "export", "a", "b", "c"],
        ["user", "passphrase"],
        ["user", "passphrase", "--remove", "--new-file", "x"],
        ["user", "import", "/nonexistent.json"],
        ["user", "cert", "select", "nosite"],
        ["confirm", "--no"],
        ["confirm", "id", "answer", "--no"],
    ],
)
def test_wrong_use(tmp_path, arguments):
    where = [] if arguments == ["user"] else ["--data-dir", tmp_path / "data"]
    zeromsg(*arguments, *where, code=2)


def test_a_site_that_is_made_while_the_node_runs_keeps_its_key(node, tmp_path):
    where = ("--config", node.config)
    made = as_json("site", "new", tmp_path / "new", *where)
    # The node writes the file anew.
    zeromsg("user", "new", "bob", *where)
    users = json.loads((node.data_dir / "users.json").read_text())
    assert made["address"] in next(iter(users.values()))["sites"]
    zeromsg("site", "sign", tmp_path / "new", *where)


def test_certificates_from_the_shell(node, site):
    where = ("--config", node.config)
    zeromsg("user", "new", "bob", *where)
    assert zeromsg("user", "cert", "list", *where) == "There is no certificate.\n"
    bob = {entry["name"]: entry for entry in as_json("user", "list", *where)}["bob"]
    with ZeroFrameProgram(
        node.host, node.ui_port, site.address, master_address=bob["master_address"]
    ) as program:
        assert program.ask("certAdd", ["rigid.bit", "web", "bob", "x"]) == "ok"
        program.ask("channelJoin", ["siteChanged"])
        (entry,) = as_json("user", "cert", "list", "--as", "bob", "--site", site.address, *where)
        assert (entry["domain"], entry["selected"]) == ("rigid.bit", True)
        zeromsg("user", "cert", "select", site.address, "--as", "bob", *where)
        wait_for(
            lambda: [p["event"] for c, p in program.events if c == "setSiteInfo"],
            10,
            "the client hears of it",
        )
        assert program.ask("siteInfo")["cert_user_id"] is None
    zeromsg("user", "cert", "remove", "rigid.bit", "--as", "bob", *where)
    assert as_json("user", "cert", "list", "--as", "bob", *where) == []


# The unmodified client of PyPI


def test_the_client_acts_for_the_user_that_it_names(node, site, theirs):
    zeromsg("user", "import", theirs, "--config", node.config)
    vectors = json.loads(
        (
            Path(__file__).parents[1] / "vectors" / "ui" / "ws_client_python_multiuser.json"
        ).read_text()
    )
    assert ADDRESS in json.dumps(vectors)
    with (
        ZeroFrameProgram(node.host, node.ui_port, site.address) as default,
        ZeroFrameProgram(node.host, node.ui_port, site.address, master_address=ADDRESS) as named,
    ):
        addresses = {program.ask("siteInfo")["auth_address"] for program in (default, named)}
        assert len(addresses) == 2
        assert named.wrapper_key == default.wrapper_key
        answer = named.ask("certList")
        assert answer == {"error": "denied: You don't have permission to run certList"}
        named.ask("peerBroadcast", {"message": "mine", "privatekey": False})
        event = default.wait_for_message("mine")
        assert event["signed_by"] == named.ask("siteInfo")["auth_address"]


def test_an_unknown_user_is_refused_before_the_upgrade(node, site):
    with pytest.raises(AssertionError, match="the WebSocket is open"):
        Impatient(node.host, node.ui_port, site.address, master_address=NOBODY)
    request = urllib.request.Request(
        f"{node.url}/{site.address}",
        headers={"Accept": "text/html", "Cookie": f"master_address={NOBODY}"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with pytest.raises(urllib.error.HTTPError) as refused:
        opener.open(request, timeout=5)
    assert refused.value.code == 403
    assert refused.value.read().startswith(b"No user found: ")


class Impatient(ZeroFrameProgram):
    def _wait(self, condition, seconds, what):
        super()._wait(condition, 1.5, what)


# In whose name the shell speaks


def test_messages_as_a_user(node, site, tmp_path):
    where = ("--config", node.config)
    bob = as_json("user", "new", "bob", *where)["master_address"]
    with ZeroFrameProgram(node.host, node.ui_port, site.address) as listener:
        for user, text in (("bob", "one"), (bob, "two"), (bob[:6], "three")):
            # Nobody but the node's own clients is there, so it counts as not sent.
            zeromsg("broadcast", site.address, text, "--sign", "user", "--as", user, *where, code=1)
        signers = {listener.wait_for_message(text)["signed_by"] for text in ("one", "two", "three")}
        zeromsg("broadcast", site.address, "four", "--sign", "user", *where, code=1)
        default = listener.wait_for_message("four")["signed_by"]
        assert default == listener.ask("siteInfo")["auth_address"]
    assert len(signers) == 1 and default not in signers
    assert "has no user carol" in zeromsg(
        "broadcast", site.address, "x", "--as", "carol", *where, code=1
    )
    listened = subprocess.run(
        [*PROGRAM, "listen", site.address, "--seconds", "0.2", "--as", "bob", "--config",
         str(node.config)],
        capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert (listened.returncode, listened.stderr) == (0, "")


# Prompts


def test_the_operator_confirms(node, site):
    where = ("--config", node.config)
    assert zeromsg("confirm", *where) == "Nothing waits for you.\n"
    with ZeroFrameProgram(node.host, node.ui_port, site.address) as program:
        assert program.ask("certAdd", ["rigid.bit", "web", "bob", "first"]) == "ok"
        replacing = program.send("certAdd", ["rigid.bit", "web", "bob", "second"])
        (prompt,) = wait_for(lambda: as_json("confirm", *where), 10, "a prompt")
        # What the client says to it is nothing, whatever its number.
        for number in range(1, 20):
            program.send_response(number)
        assert program.ask("ping") == "pong"
        assert len(as_json("confirm", *where)) == 1 and not replacing.done()
        shown = zeromsg("confirm", *where)
        assert prompt["id"] in shown and "Your current certificate is web/bob@rigid.bit." in shown
        zeromsg("confirm", prompt["id"], *where)
        assert replacing.result(10) == "ok"
        choosing = program.send("certSelect", {"accepted_domains": ["rigid.bit"]})
        (prompt,) = wait_for(lambda: as_json("confirm", *where), 10, "a prompt")
        assert "to choose from are '', 'rigid.bit'" in zeromsg(
            "confirm", prompt["id"], *where, code=1
        )
        zeromsg("confirm", prompt["id"], "--no", *where)
        assert choosing.result(10) == {"error": "denied: the person did not agree"}


# The passphrase


def test_a_node_starts_with_its_passphrase_only(new_node, site, tmp_path):
    node = new_node(sites={site.address: site.folder}).start()
    where = ("--config", node.config)
    key = page_key(node, site)
    secret = secret_file(tmp_path)
    zeromsg("user", "passphrase", "--new-file", secret, *where)
    users = node.data_dir / "users.json"
    assert "zeromsg_sealed" in users.read_text()
    # While it runs it goes on as before.
    assert page_key(node, site) == key
    zeromsg("user", "new", "bob", *where)
    assert "denied: the users are under a passphrase" in zeromsg(
        "user", "export", tmp_path / "out.json", *where, code=1
    )
    assert not (tmp_path / "out.json").exists()
    assert node.stop() == 0

    node.launch()
    assert node.wait() == 1
    assert "it is under a passphrase: name a file that holds it as passphrase_file" in node.log
    assert "Traceback" not in node.log
    node.settings["users.passphrase_file"] = str(secret_file(tmp_path, "wrong horse", "wrong"))
    node.launch()
    assert node.wait() == 1
    assert "users.json: the passphrase is wrong, or the file was damaged" in node.log
    node.settings["users.passphrase_file"] = str(secret)
    node.start()
    assert page_key(node, site) == key
    assert [entry["name"] for entry in as_json("user", "list", *where)] == ["", "bob"]
    zeromsg("user", "export", tmp_path / "out.json", *where)
    assert len(json.loads((tmp_path / "out.json").read_text())) == 2
    assert node.stop() == 0

    # And without a node.
    assert len(as_json("user", "list", *where)) == 2
    other = secret_file(tmp_path, "another horse", "other")
    zeromsg("user", "passphrase", "--new-file", other, *where)
    assert "the passphrase is wrong" in zeromsg("user", "list", *where, code=2)
    zeromsg("user", "passphrase", "--old-file", other, "--remove", *where)
    assert len(json.loads(users.read_text())) == 2
    assert SECRET not in node.log


def page_key(node, site):
    request = urllib.request.Request(f"{node.url}/{site.address}", headers={"Accept": "text/html"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=5) as response:
        found = re.search(r'wrapper_key = "(.*?)"', response.read().decode())
    assert found is not None
    return found[1]


def test_on_a_terminal_it_asks(tmp_path):
    data = tmp_path / "data"
    zeromsg("user", "new", "bob", "--data-dir", data)
    zeromsg("user", "passphrase", "--new-file", secret_file(tmp_path), "--data-dir", data)
    config = tmp_path / "zeromsg.toml"
    config.write_text(
        f'data_dir = "{data}"\n[ui]\nendpoint = "tcp:0:interface=127.0.0.19"\n'
        '[peers]\nendpoint = ""\n'
    )
    ours, terminal = pty.openpty()
    process = subprocess.Popen(
        [*PROGRAM, "run", "--config", str(config)],
        stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
    )  # fmt: skip
    os.close(terminal)
    seen = ""
    try:
        seen = read_until(ours, "Passphrase of ")
        os.write(ours, f"{SECRET}\n".encode())
        seen += read_until(ours, "zeromsg is up")
        process.terminate()
        assert process.wait(10) == 0
        assert SECRET not in seen
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def read_until(terminal, text):
    seen = ""
    while text not in seen:
        seen += os.read(terminal, 4096).decode(errors="replace")
    return seen
