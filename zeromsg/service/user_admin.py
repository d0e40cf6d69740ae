"""What the operator does with users, on the file itself or inside a running node.

`zeromsg user` calls this where no node runs, and the node for it where one does
(`service.operator`), so both do the same. Only `user_export` gives secrets away.
"""

from collections.abc import Callable, Mapping
from typing import Any

from zeromsg.crypto.keys import PrivateKey
from zeromsg.errors import BadKey, ClientError
from zeromsg.routing.cert_commands import certificates
from zeromsg.store.user import User
from zeromsg.store.users import Users

_TEXT_LIMIT = 1100

_Json = Mapping[str, Any]


def administer(users: Users, cmd: str, params: _Json) -> Mapping[str, Any] | None:
    """Run one command; its result as a JSON map, None for a command of other things.

    user_list: nothing. user_new: `name` (or null). user_import: `document`.
    user_export: `user` (or null for all), `passphrase` where there is one.
    user_passphrase: `old` where there is one, `new` (null for none).
    site_key_add: `key`, a site's own key as WIF, for the default user, who is made if
    there is none. cert_list: `user`, `site` (or null). cert_select: `user`, `site`, `domain`.
    cert_remove: `user`, `domain`. A user is given as `Users.find` takes it, null
    is the default one. Raises ClientError, ConfigError.
    """
    run = _COMMANDS.get(cmd)
    return None if run is None else run(users, params)


def user_named(users: Users, text: str | None) -> User:
    """The user that the operator means; None for the default one. Raises ClientError."""
    if text is not None:
        return users.find(text)
    if not users.all():
        raise ClientError("invalid", "there is no user yet: make one by `zeromsg user new`")
    return users.default


def _list(users: Users, params: _Json) -> _Json:
    return {"users": [_shown(users, user) for user in users.all()], "sealed": users.sealed}


def _shown(users: Users, user: User) -> dict[str, Any]:
    return {
        "name": user.name,
        "master_address": user.master_address,
        "default": user is users.default,
        "sites": user.sites,
        "certificates": [owned.certificate.user_id for owned in user.certificates().values()],
    }


def _new(users: Users, params: _Json) -> _Json:
    return {"user": _shown(users, users.new(text_or_none(params, "name")))}


def _import(users: Users, params: _Json) -> _Json:
    results = users.import_users(params.get("document"))
    return {
        "users": [
            {"master_address": each.name, "outcome": each.outcome, "reason": each.reason}
            for each in results
        ]
    }


def _export(users: Users, params: _Json) -> _Json:
    # Whoever may ask a running node has not shown that she knows it.
    _check_passphrase(users, text_or_none(params, "passphrase"))
    wanted = text_or_none(params, "user")
    chosen = users.all() if wanted is None else [users.find(wanted)]
    if not chosen:
        raise ClientError("invalid", "there is no user to export")
    return {"document": users.export_users(chosen)}


def _passphrase(users: Users, params: _Json) -> _Json:
    new = text_or_none(params, "new")
    _check_passphrase(users, text_or_none(params, "old"))
    users.set_passphrase(new)
    return {"sealed": users.sealed}


def _check_passphrase(users: Users, given: str | None) -> None:
    if not users.sealed:
        return
    if given is None:
        raise ClientError("denied", "the users are under a passphrase, which is needed for this")
    if not users.opens_with(given):
        raise ClientError("denied", "the passphrase is wrong")


def _site_key_add(users: Users, params: _Json) -> _Json:
    try:
        key = PrivateKey.from_wif(_text(params, "key"))
    except BadKey as problem:
        raise ClientError("invalid", f"key: {problem}") from None
    user = users.default if users.all() else users.new()
    user.set_site_key(key.address, key)
    return {"site": key.address}


def _cert_list(users: Users, params: _Json) -> _Json:
    user = user_named(users, text_or_none(params, "user"))
    return {"certificates": certificates(user, text_or_none(params, "site") or "")}


def _cert_select(users: Users, params: _Json) -> _Json:
    user = user_named(users, text_or_none(params, "user"))
    site, domain = _text(params, "site"), text_or_none(params, "domain") or ""
    user.set_certificate(site, domain)
    return {"selected": domain}


def _cert_remove(users: Users, params: _Json) -> _Json:
    user = user_named(users, text_or_none(params, "user"))
    domain = _text(params, "domain")
    user.remove_certificate(domain)
    return {"removed": domain}


_COMMANDS: Mapping[str, Callable[[Users, _Json], _Json]] = {
    "user_list": _list,
    "user_new": _new,
    "user_import": _import,
    "user_export": _export,
    "user_passphrase": _passphrase,
    "site_key_add": _site_key_add,
    "cert_list": _cert_list,
    "cert_select": _cert_select,
    "cert_remove": _cert_remove,
}


def text_or_none(params: _Json, name: str) -> str | None:
    """An optional parameter. Raises ClientError."""
    return None if params.get(name) is None else _text(params, name)


def _text(params: _Json, name: str) -> str:
    value = params.get(name)
    if not isinstance(value, str) or len(value) > _TEXT_LIMIT:
        raise ClientError("invalid", f"{name} must be a text of at most {_TEXT_LIMIT} characters")
    return value
