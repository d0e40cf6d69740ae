"""Signed sites in directories, for tests that need real ones."""

import json
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zeromsg.service.site_making import new_site
from zeromsg.wire.names import P2P_JSON


def make_site(folder: Path, rules: Mapping[str, Any] | None = None, title: str = "Test") -> str:
    """Make a site of a directory, whose files become its own; returns its address.

    rules: the p2p.json; by default everything is taken.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / P2P_JSON).write_text(json.dumps({"filter": ".*", **(rules or {})}))
    return new_site(folder, title, secrets.token_bytes, time.time).address
