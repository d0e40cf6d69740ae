"""content.json: the signed list of a site's files, and whether to believe one.

Nothing here reads or writes files: bytes and what the node already holds come
in, a decision goes out. Three kinds are told apart by where they lie:
- the root file `content.json`, signed by the site or a delegate of it;
- an include, named under `includes` of a content.json above it;
- the file of a user, one folder below a content.json with `user_contents`.

Rules and regular expressions are written by strangers. A rule of a wrong type
and an expression that RE2 does not take refuse the file: we fail closed.
Source: ZeroNet peer protocol, section 14.
"""

import functools
import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import re2

from zeromsg.crypto.cert import Certificate, verify_cert
from zeromsg.crypto.keys import PrivateKey
from zeromsg.crypto.signing import sign, verify
from zeromsg.errors import ContentRefused

ROOT = "content.json"
SIZE_LIMIT = 10_000_000
"""Most bytes of a content.json, as other nodes have it for the root file."""

DEPTH_LIMIT = 64
"""Most maps and lists inside one another."""

FUTURE_LIMIT = 86400.0
"""Seconds that `modified` may lie ahead of our clock."""

COLLECTIONS_LIMIT = 200_000
"""Most maps and lists of one content.json, each file of a site being one."""

PATH_LIMIT = 255
PATTERN_LIMIT = 255

RULES_LIMIT = 100_000
"""Most instructions that all `permission_rules` together may compile to; an ordinary one has 20."""

STEPS_LIMIT = 200_000_000
"""Most instructions of a rule times characters that it is matched with: half a second at worst,
usually a thousandth of that."""

SIGNATURES_LIMIT = 50
"""Signatures of one content.json that are looked at; one good one is enough."""

_PATTERN_MEMORY = 1024 * 1024
"""Bytes that one compiled expression may take; what takes more needs a quarter of a second to
compile."""

_BIGGEST_SIZE = 2**53
_REFUSED_POINTS = 5
_STALE_POINTS = 1
_USER_LIMIT = 1024
_NO_USER = "n-a/n-a"
"""What permission rules are matched with when there is no certificate."""

_SHA512_FORM = re.compile(r"[0-9a-f]{64}")
_BAD_CHARACTERS = re.compile(r'[\x00-\x1f\x7f"*:<>?\\|]')
_DEVICES = frozenset(
    ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"]
    + [f"{port}{number}" for port in ("COM", "LPT") for number in range(10)]
)

_Map = Mapping[str, Any]


class ContentUnchanged(ContentRefused):
    """The node holds a content.json of the very same `modified`: nothing is wrong, or new."""


@attrs.frozen
class FileEntry:
    """A file that a content.json vouches for. Raises ValueError when it is none.

    inner_path: from the site's root, `/` between the parts.
    sha512: the first 64 hex digits, lower-case.
    size: bytes.
    """

    inner_path: str
    sha512: str
    size: int

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.sha512, str) or not _SHA512_FORM.fullmatch(self.sha512):
            raise ValueError(f"the sha512 of {self.inner_path!r} is no 64 hex digits")
        if type(self.size) is not int or not 0 <= self.size <= _BIGGEST_SIZE:
            raise ValueError(f"the size of {self.inner_path!r} is no number of bytes")


# Text and bytes


def canonical(content: _Map) -> str:
    """The ASCII text that is signed: without the signatures, keys in order.

    Raises ValueError for what is no JSON (NaN).
    """
    bare = {key: value for key, value in content.items() if key not in ("sign", "signs")}
    return json.dumps(bare, sort_keys=True, allow_nan=False)


def content_bytes(content: _Map) -> bytes:
    """A content.json as it is written to disk and sent: indented by 1, keys in order."""
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False).encode("ascii")


def file_digest(data: bytes) -> str:
    """What content.json calls `sha512`: the first 64 of 128 hex digits."""
    return hashlib.sha512(data).hexdigest()[:64]


def is_safe_path(path: str) -> bool:
    """Whether a relative file name may be written on any system.

    The rules of ZeroNet, and three more: no empty part, no `.` part, and
    nothing that UTF-8 cannot write. Empty and absolute paths are refused.
    """
    if not path or len(path) > PATH_LIMIT or path[-1] in ". " or _BAD_CHARACTERS.search(path):
        return False
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return all(_is_safe_part(part) for part in path.split("/"))


def _is_safe_part(part: str) -> bool:
    stem = part.partition(".")[0].rstrip(" ").upper()
    return part not in ("", ".", "..") and stem not in _DEVICES


def parse_content(data: bytes, size_limit: int = SIZE_LIMIT) -> dict[str, Any]:
    """Decode a content.json from a stranger, or raise ContentRefused with a sentence."""
    if len(data) > size_limit:
        raise _refusal(f"content.json is larger than {size_limit} bytes")
    # Those in texts are counted as well, which there are few of.
    if data.count(b"{") + data.count(b"[") > COLLECTIONS_LIMIT:
        raise _refusal(f"content.json has over {COLLECTIONS_LIMIT} maps and lists")
    try:
        content = _decoder.decode(data.decode())
    except UnicodeDecodeError:
        raise _refusal("content.json is no UTF-8") from None
    except RecursionError:
        raise _refusal("content.json is nested too deeply") from None
    except ValueError as error:
        raise _refusal(f"content.json is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise _refusal("content.json is no map")
    if _depth_exceeds(content, DEPTH_LIMIT):
        raise _refusal("content.json is nested too deeply")
    return content


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is out of range")
    return number


_decoder = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)


def _depth_exceeds(content: Any, limit: int) -> bool:
    level = [content]
    for _ in range(limit):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def _refusal(sentence: str, points: int = _REFUSED_POINTS) -> ContentRefused:
    return ContentRefused(sentence, points)


# Files


def file_entries(inner_path_of_content: str, content: _Map) -> list[FileEntry]:
    """The files that come with a site. ContentRefused if one is unsafe or ill-formed.

    A content.json listed as a file is left out: it has signatures of its own,
    and a hash must not stand in for them.
    """
    return _entries(inner_path_of_content, content, "files")


def optional_entries(inner_path_of_content: str, content: _Map) -> list[FileEntry]:
    """The files that are fetched when somebody wants them; otherwise as `file_entries`."""
    return _entries(inner_path_of_content, content, "files_optional")


def _entries(inner_path_of_content: str, content: _Map, key: str) -> list[FileEntry]:
    folder = _folder(inner_path_of_content)
    return [
        _entry(folder + path, fact)
        for path, fact in _files(content, key).items()
        if path.rpartition("/")[2] != ROOT
    ]


def _files(content: _Map, key: str) -> dict[str, Any]:
    files = content.get(key, {})
    if not isinstance(files, dict):
        raise _refusal(f"{key} is no map")
    for path in files:
        if not is_safe_path(path):
            raise _refusal(f"file name {path[:PATH_LIMIT]!r} is unsafe")
    return files


def _entry(inner_path: str, fact: object) -> FileEntry:
    if not isinstance(fact, dict):
        raise _refusal(f"what is said of {inner_path!r} is no map")
    try:
        return FileEntry(inner_path, fact.get("sha512", ""), fact.get("size", -1))
    except ValueError as error:
        raise _refusal(str(error)) from None


def _folder(inner_path: str) -> str:
    """The folder of a path, empty or ending in a slash."""
    return inner_path.removesuffix(inner_path.rpartition("/")[2])


# Signing our own


def new_content(site: str, files: list[FileEntry], modified: float, **extra: Any) -> dict[str, Any]:
    """An unsigned root content.json.

    files: `inner_path` from the root. modified: Unix seconds.
    extra: further keys, such as title and description; they win.
    Raises ValueError for an unsafe file name.
    """
    for entry in files:
        if not is_safe_path(entry.inner_path):
            raise ValueError(f"file name {entry.inner_path!r} is unsafe")
    listed = {entry.inner_path: {"sha512": entry.sha512, "size": entry.size} for entry in files}
    fixed = {"address": site, "files": listed, "inner_path": ROOT, "modified": modified}
    return fixed | {"signs_required": 1, "title": ""} | extra


def sign_content(content: _Map, key: PrivateKey, before: _Map | None = None) -> dict[str, Any]:
    """A signed copy, with this one signature and none of the old ones.

    The site's own key also confirms the list of delegated signers, if any.
    before: the root file that this one replaces. Nodes that hold it check the
    confirmation against *its* list, so a changed list needs it.
    """
    signed = {name: value for name, value in content.items() if name not in ("sign", "signs")}
    if signed.get("address") == key.address:
        signers = _signers({} if before is None else before, key.address)
        if len(signers) == 1:
            signers = _signers(signed, key.address)
        if len(signers) > 1:
            signed["signers_sign"] = sign(_signers_text(signers), key)
    signed["signs"] = {key.address: sign(canonical(signed), key)}
    return signed


def _signers(rules: _Map, site: str) -> list[str]:
    """Who may sign: those named, in order, then the site unless it was among them."""
    named = rules.get("signers", [])
    if not isinstance(named, list) or not all(isinstance(one, str) for one in named):
        raise _refusal("signers is no list of addresses")
    return named if site in named else [*named, site]


def _signers_text(signers: list[str]) -> str:
    return "1:" + ",".join(signers)


# Rules


@attrs.frozen
class _Rules:
    """What a content.json has to keep to. None: no limit.

    signers: who may sign, the site among them.
    files_allowed...: expressions over a whole name, compiled.
    issuers: of a user's certificate; None outside of user folders.
    """

    signers: list[str]
    max_size: float | None = None
    max_size_optional: float | None = None
    files_allowed: Any = None
    files_allowed_optional: Any = None
    includes_allowed: bool = True
    issuers: _Map | None = None


def _rules_for(site: str, inner_path: str, content: _Map, held: Mapping[str, _Map]) -> _Rules:
    """Find what governs a content.json, nearest folder first."""
    if inner_path == ROOT:
        return _Rules(_signers(held.get(ROOT, {}), site))
    for folder in _folders_above(inner_path):
        above = held.get(folder + ROOT, {})
        relative = inner_path.removeprefix(folder)
        includes = _map(above, "includes")
        if relative in includes:
            return _compile_rules(site, _map(includes, relative))
        if "user_contents" in above:
            return _user_rules(site, relative, content, _map(above, "user_contents"))
    raise _refusal(f"no content.json that is held speaks of {inner_path}")


def is_governed(inner_path: str, held: Mapping[str, _Map]) -> bool:
    """Whether some content.json that is held speaks of a content.json at this place."""
    if not is_safe_path(inner_path) or inner_path.rpartition("/")[2] != ROOT:
        return False
    for folder in _folders_above(inner_path):
        above = held.get(folder + ROOT, {})
        relative = inner_path.removeprefix(folder)
        includes = above.get("includes")
        if isinstance(includes, dict) and relative in includes:
            return True
        if "user_contents" in above:
            return relative.count("/") == 1
    return inner_path == ROOT


def _folders_above(inner_path: str) -> Iterator[str]:
    folder = _folder(inner_path)
    while folder:
        folder = _folder(folder.removesuffix("/"))
        yield folder


def _compile_rules(site: str, rules: _Map, issuers: _Map | None = None) -> _Rules:
    return _Rules(
        signers=_signers(rules, site),
        max_size=_number(rules, "max_size"),
        max_size_optional=_number(rules, "max_size_optional"),
        files_allowed=_expression(rules, "files_allowed"),
        files_allowed_optional=_expression(rules, "files_allowed_optional"),
        includes_allowed=issuers is None and rules.get("includes_allowed") is not False,
        issuers=issuers,
    )


def _user_rules(site: str, relative: str, content: _Map, user_contents: _Map) -> _Rules:
    address, _, name = relative.partition("/")
    if name != ROOT:
        raise _refusal("a user's content.json lies directly in the user's folder")
    user_id = content.get("cert_user_id")
    user_id = user_id if isinstance(user_id, str) else None
    permissions = _map(user_contents, "permissions")
    banned = permissions.get(address) is False or permissions.get(user_id or "") is False
    merged: dict[str, Any] = {} if banned else {"signers": [address]}
    own = address if address in permissions else user_id
    if own in permissions and not banned:
        _merge(merged, _map(permissions, own))
    user = _NO_USER if user_id is None else _user_text(content.get("cert_auth_type"), user_id)
    left = RULES_LIMIT
    for pattern, rules in _map(user_contents, "permission_rules").items():
        expression = _compile(pattern)
        left -= expression.programsize
        if left < 0:
            raise _refusal("permission_rules are too many, or too complicated")
        # Like ZeroNet, at the start: the rest of the user ID may be anything.
        if expression.match(user):
            _merge(merged, rules)
    return _compile_rules(site, merged, _map(user_contents, "cert_signers"))


def content_rules(
    site: str, inner_path: str, content: _Map, held: Mapping[str, _Map]
) -> dict[str, Any]:
    """What a content.json has to keep to, as ZeroNet's `fileRules` shows it.

    content: what the one to be judged says of its author (`cert_user_id` and
    `cert_auth_type`, in a user's folder). Raises ContentRefused.
    """
    rules = _rules_for(site, inner_path, content, held)
    shown: dict[str, Any] = {"signers": rules.signers}
    if inner_path == ROOT:
        return shown
    limits = {"max_size": rules.max_size, "max_size_optional": rules.max_size_optional}
    patterns = {
        "files_allowed": rules.files_allowed,
        "files_allowed_optional": rules.files_allowed_optional,
    }
    shown |= {key: value for key, value in limits.items() if value is not None}
    shown |= {key: value.pattern for key, value in patterns.items() if value is not None}
    if not rules.includes_allowed:
        shown["includes_allowed"] = False
    if rules.issuers is not None:
        shown["cert_signers"] = dict(rules.issuers)
        shown["user_address"] = _folder(inner_path).split("/")[-2]
    return shown


def _merge(into: dict[str, Any], rules: object) -> None:
    """Add rules: the larger number, the longer text, the joined list."""
    if not isinstance(rules, dict):
        raise _refusal("a permission is no map")
    for key, new in rules.items():
        old = into.get(key)
        if old is None:
            # A copy, to which the next rule's list is joined.
            into[key] = list(new) if isinstance(new, list) else new
        elif isinstance(old, int | float) and isinstance(new, int | float):
            into[key] = max(old, new)
        elif isinstance(old, str) and isinstance(new, str):
            into[key] = max(old, new, key=len)
        elif isinstance(old, list) and isinstance(new, list):
            old.extend(new)
        elif new is not None:
            raise _refusal(f"permissions disagree on what {key[:40]!r} is")


def _map(content: _Map, key: str) -> dict[str, Any]:
    value = content.get(key, {})
    if not isinstance(value, dict):
        raise _refusal(f"{key[:PATH_LIMIT]!r} is no map")
    return value


def _number(rules: _Map, key: str) -> float | None:
    value = rules.get(key)
    if value is not None and type(value) not in (int, float):
        raise _refusal(f"{key} is no number")
    return value


def _expression(rules: _Map, key: str) -> Any:
    value = rules.get(key) or None
    return None if value is None else _compile(value)


def _compile(pattern: object) -> Any:
    if not isinstance(pattern, str) or len(pattern) > PATTERN_LIMIT:
        raise _refusal(f"a rule is no expression of at most {PATTERN_LIMIT} characters")
    compiled = _compiled(pattern)
    if compiled is None:
        raise _refusal(f"the expression {pattern!r} of a rule cannot be used")
    return compiled


@functools.lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    """None for what RE2 does not take. Each file of a user is judged by the same few."""
    options = re2.Options()
    options.log_errors = False  # it would print a stranger's text
    options.max_mem = _PATTERN_MEMORY
    try:
        return re2.compile(pattern, options)
    except (re2.error, UnicodeEncodeError):
        return None


def _user_text(kind: object, user_id: str) -> str:
    """What permission rules are matched with."""
    text = f"{kind if isinstance(kind, str) else None}/{user_id}"
    if len(text) > _USER_LIMIT:
        raise _refusal("cert_user_id is too long")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _refusal("cert_user_id is no UTF-8") from None
    return text


# Judging


def verify_content(
    site: str,
    inner_path: str,
    data: bytes,
    held: Mapping[str, _Map],
    now: float,
    size_limit: int = SIZE_LIMIT,
) -> dict[str, Any]:
    """Decide whether a content.json may be stored, and return it decoded.

    data: as received; its layout does not matter, only what it says.
    held: the content.json files that this node has accepted, by inner path.
    now: Unix seconds, to refuse files from the future.
    Raises ContentRefused with a sentence; ContentUnchanged, before anything
    else is checked, when `modified` is what the held file has.
    """
    if not is_safe_path(inner_path) or inner_path.rpartition("/")[2] != ROOT:
        raise _refusal(f"{inner_path[:PATH_LIMIT]!r} is no place for a content.json")
    content = parse_content(data, size_limit)
    _check_time(content, held.get(inner_path), now)
    rules = _rules_for(site, inner_path, content, held)
    text = canonical(content)
    _check_signatures(site, inner_path, content, text, rules)
    if rules.issuers is not None:
        _check_certificate(_folder(inner_path).split("/")[-2], content, rules.issuers)
    _check_labels(site, inner_path, content)
    _check_limits(inner_path, content, text, rules)
    if inner_path == ROOT:
        _signers(content, site)  # the next root file will be judged by it
    return content


def _check_time(content: _Map, before: _Map | None, now: float) -> None:
    modified = content.get("modified")
    if isinstance(modified, bool) or not isinstance(modified, int | float):
        raise _refusal("modified is no number")
    if modified < 0:
        raise _refusal("modified lies before 1970")
    ours = -math.inf if before is None else before.get("modified", -math.inf)
    if modified == ours:
        raise ContentUnchanged("content.json is the one that is held", _STALE_POINTS)
    if modified < ours:
        raise _refusal(f"content.json is older ({modified}) than held ({ours})", _STALE_POINTS)
    if modified > now + FUTURE_LIMIT:
        raise _refusal("modified lies more than a day in the future")


def _check_signatures(site: str, inner_path: str, content: _Map, text: str, rules: _Rules) -> None:
    # The list that counts is the one held: a new one takes effect an update later.
    if inner_path == ROOT and len(rules.signers) > 1:
        confirmation = content.get("signers_sign")
        listed = _signers_text(rules.signers)
        if not isinstance(confirmation, str) or not verify(listed, site, confirmation):
            raise _refusal("signers_sign is no signature of the list of signers")
    signs = content.get("signs")
    if not isinstance(signs, dict):
        raise _refusal("content.json has no signs")
    tried = [signer for signer in dict.fromkeys(rules.signers) if signer in signs]
    for signer in tried[:SIGNATURES_LIMIT]:
        signature = signs[signer]
        if isinstance(signature, str) and verify(text, signer, signature):
            return
    raise _refusal("content.json has no valid signature of a valid signer")


def _check_certificate(address: str, content: _Map, issuers: _Map) -> None:
    """A user needs a certificate where the site lists issuers, and may claim none elsewhere."""
    user_id, kind = content.get("cert_user_id"), content.get("cert_auth_type")
    signature = content.get("cert_sign")
    if user_id is None and not issuers:
        return
    if not isinstance(user_id, str):
        raise _refusal("cert_user_id is missing")
    if not isinstance(kind, str) or not isinstance(signature, str):
        raise _refusal("cert_auth_type or cert_sign is missing")
    try:
        cert = Certificate.from_user_id(kind, user_id, signature)
    except ValueError as error:
        raise _refusal(str(error)) from None
    if cert.issuer not in issuers:
        raise _refusal(f"this site accepts no certificates of {cert.issuer!r}")
    if not verify_cert(address, cert, issuers):
        raise _refusal("the certificate is not signed by its issuer")


def _check_labels(site: str, inner_path: str, content: _Map) -> None:
    if content.get("address", site) != site:
        raise _refusal("content.json says that it belongs to another site")
    if content.get("inner_path", inner_path) != inner_path:
        raise _refusal("content.json has the inner_path of another place")


def _check_limits(inner_path: str, content: _Map, text: str, rules: _Rules) -> None:
    """text: the content.json as it is signed."""
    files = file_entries(inner_path, content)
    optional = optional_entries(inner_path, content)
    if rules.max_size is not None:
        size = sum(entry.size for entry in files)
        # As it is written to disk it is no shorter, and takes ten times as long to make.
        if size + len(text) <= rules.max_size:
            bare = {key: value for key, value in content.items() if key not in ("sign", "signs")}
            size += len(json.dumps(bare, indent=1))
        else:
            size += len(text)
        if size > rules.max_size:
            raise _refusal(f"{inner_path} is too large with its files: {size} bytes")
    if rules.max_size_optional is not None:
        size = sum(entry.size for entry in optional)
        if size > rules.max_size_optional:
            raise _refusal(f"optional files of {inner_path} are too large: {size} bytes")
    if content.get("includes") and not rules.includes_allowed:
        raise _refusal(f"{inner_path} may have no includes")
    _check_names(content, "files", rules.files_allowed)
    _check_names(content, "files_optional", rules.files_allowed_optional)


def _check_names(content: _Map, key: str, allowed: Any) -> None:
    if allowed is None:
        return
    names = _files(content, key)
    if allowed.programsize * sum(map(len, names)) > STEPS_LIMIT:
        raise _refusal(f"{key} are too many for the expression that says which are allowed")
    for path in names:
        if not allowed.fullmatch(path):
            raise _refusal(f"{path!r} is not among the files allowed")
