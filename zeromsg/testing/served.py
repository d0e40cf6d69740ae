"""A site without a directory: signed in memory, and served by a peer that a test writes by hand."""

import hashlib
import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from zeromsg.crypto.keys import PrivateKey
from zeromsg.policy.site_content import content_bytes, sign_content
from zeromsg.wire.names import CONTENT_JSON


def fact(data: bytes) -> dict[str, Any]:
    """What a content.json says of a file."""
    return {"sha512": hashlib.sha512(data).hexdigest()[:64], "size": len(data)}


def signed(
    key: PrivateKey,
    files: Mapping[str, bytes],
    modified: float,
    inner_path: str = CONTENT_JSON,
    extra: Mapping[str, Any] = MappingProxyType({}),
) -> bytes:
    """A content.json, by default the root file of the key's site. extra: keys that win."""
    facts = {name: fact(data) for name, data in files.items()}
    values = {"inner_path": inner_path, "files": facts, "modified": modified}
    if inner_path == CONTENT_JSON:
        values["address"] = key.address
    return content_bytes(sign_content({**values, **extra}, key))


def versions(files: Mapping[str, bytes], since: float) -> dict[str, float]:
    """What a peer that holds these files has to say to a `listModified`."""
    said = {}
    for name, data in files.items():
        if name.rpartition("/")[2] == CONTENT_JSON:
            try:
                said[name] = json.loads(data)["modified"]
            except (ValueError, TypeError, KeyError):
                continue  # one that a test has spoilt
    return {name: modified for name, modified in said.items() if modified > since}


def serving(
    files: Mapping[str, bytes], chunk: int = 512 * 1024
) -> Callable[[str, dict[Any, Any]], dict[str, Any] | None]:
    """Answers of a peer that holds these files, as they are at each request."""

    def respond(cmd: str, params: dict[Any, Any]) -> dict[str, Any] | None:
        if cmd == "pex":
            return {"peers": []}
        if cmd == "listModified":
            return {"modified_files": versions(files, params["since"])}
        if cmd != "streamFile":
            return {"ok": "thx"}
        data = files.get(params["inner_path"])
        if data is None:
            return {"error": "File read error: no such file"}
        start = params["location"]
        body = data[start : start + min(chunk, params["read_bytes"])]
        return {
            "size": len(data),
            "location": start + len(body),
            "stream_bytes": len(body),
            "body": body,
        }

    return respond
