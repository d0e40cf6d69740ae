"""Certificates of a user: kept, chosen and listed.

A site may add a certificate that it got for the person; what replaces another
one, or chooses among them, the person is asked about (`prompts`). `certSet` and
`certList` need no asking, so only trusted connections may call them. That a
certificate is true is checked when something is signed with it.
Source: ZeroFrame API, certificates.
"""

from collections.abc import Sequence
from html import escape
from typing import Any

import re2

from zeromsg.crypto.cert import Certificate
from zeromsg.errors import ClientError, TheirMistake
from zeromsg.interfaces import ISites, IUser, IUsers
from zeromsg.routing.binding import Parameter, boolean, optional_text, text
from zeromsg.routing.calling import Command, Context, Table, held
from zeromsg.routing.delivery import Delivery
from zeromsg.routing.info import site_info
from zeromsg.routing.permissions import Permissions
from zeromsg.routing.prompts import Choice, Prompts, Question
from zeromsg.routing.site_peers import SitePeers
from zeromsg.wire.client_messages import event_head
from zeromsg.wire.json_text import dump_compact
from zeromsg.wire.names import SET_SITE_INFO

DOMAINS_LIMIT = 50
"""Domains that one certSelect may name."""

PATTERN_LIMIT = 255
"""Letters of its pattern."""

YES = "yes"

_NONE = "No certificate"


def _domains(name: str, value: Any) -> list[str]:
    if (
        not isinstance(value, list)
        or len(value) > DOMAINS_LIMIT
        or not all(isinstance(item, str) and 0 < len(item) <= 255 for item in value)
    ):
        raise ClientError("invalid", f"{name} must be a list of at most {DOMAINS_LIMIT} domains")
    return value


class CertCommands:
    """certAdd, certSelect, certSet, certList."""

    def __init__(
        self,
        *,
        sites: ISites,
        users: IUsers,
        delivery: Delivery,
        site_peers: SitePeers,
        prompts: Prompts,
        permissions: Permissions,
    ) -> None:
        self._permissions = permissions
        self._sites = sites
        self._users = users
        self._delivery = delivery
        self._site_peers = site_peers
        self._prompts = prompts

    def table(self) -> Table:
        return {
            "certAdd": Command(
                (
                    Parameter("domain", text),
                    Parameter("auth_type", text),
                    Parameter("auth_user_name", text),
                    Parameter("cert", text),
                ),
                self._cert_add,
            ),
            "certSelect": Command(
                (
                    Parameter("accepted_domains", _domains, []),
                    Parameter("accept_any", boolean, False),
                    Parameter("accepted_pattern", optional_text, None),
                ),
                self._cert_select,
            ),
            "certSet": Command((Parameter("domain", text),), self._cert_set, admin=True),
            "certList": Command(
                (), lambda context: certificates(context.user, context.site), admin=True
            ),
        }

    # Each handler below is one command of the API.

    async def _cert_add(
        self, context: Context, domain: str, auth_type: str, auth_user_name: str, cert: str
    ) -> str:
        held(self._sites, context.site)
        certificate = _certificate(domain, auth_type, auth_user_name, cert)
        user, site = context.user, context.site
        done = f"New certificate added <b>{escape(certificate.text)}</b>."
        outcome = user.add_certificate(site, certificate)
        if outcome == "conflict":
            present = user.certificates()[domain].certificate
            await self._prompts.ask(context, _replacing(present, certificate))
            done = f"Certificate changed to: <b>{escape(certificate.text)}</b>."
            outcome = user.add_certificate(site, certificate, replace=True)
        if outcome == "unchanged":
            return "Not changed"
        self._choose(user, site, domain)
        context.client.push(event_head("notification", dump_compact(["done", done])))
        return "ok"

    async def _cert_select(
        self,
        context: Context,
        accepted_domains: list[str],
        accept_any: bool,
        accepted_pattern: str | None,
    ) -> str:
        held(self._sites, context.site)
        pattern = _pattern(accepted_pattern) if accepted_pattern else None
        everything = accept_any or not (accepted_domains or pattern)
        user, site = context.user, context.site
        fitting = {
            domain: owned.certificate
            for domain, owned in user.certificates().items()
            if everything or domain in accepted_domains or (pattern and pattern.match(domain))
        }
        missing = [domain for domain in accepted_domains if domain not in fitting]
        selected = user.certificate(site)
        question = _selecting(list(fitting.values()), missing, selected)
        self._choose(user, site, await self._prompts.ask(context, question))
        return "ok"

    def _cert_set(self, context: Context, domain: str) -> str:
        held(self._sites, context.site)
        self._choose(context.user, context.site, domain)
        return "ok"

    # What follows.

    def _choose(self, user: IUser, site: str, domain: str) -> None:
        user.set_certificate(site, domain)
        self.changed(user, site, domain)

    def changed(self, user: IUser, site: str, domain: str) -> None:
        """Tell a user's clients on a site which certificate is chosen there now, "" for none."""
        found = self._sites.get(site)
        clients = [
            client
            for client in self._delivery.clients(site)
            if client.listens("siteChanged") and self._users.get(client.user) is user
        ]
        if found is None or not clients:
            return
        peers = len(self._site_peers.participants(site))
        info = site_info(found, user, peers, self._permissions.of(site))
        head = event_head(SET_SITE_INFO, dump_compact({**info, "event": ["cert_changed", domain]}))
        for client in clients:
            client.push(head)


def certificates(user: IUser, site: str) -> list[dict[str, Any]]:
    """All certificates of a user as certList gives them. site: what `selected` is about."""
    chosen = user.certificate(site)
    return [
        {
            "auth_address": owned.key.address,
            "auth_type": owned.certificate.auth_type,
            "auth_user_name": owned.certificate.auth_user_name,
            "domain": domain,
            # ZeroNet compares addresses, which certificates of one site share.
            "selected": chosen is not None and chosen.issuer == domain,
        }
        for domain, owned in user.certificates().items()
    ]


def _certificate(domain: str, auth_type: str, auth_user_name: str, cert: str) -> Certificate:
    if not (domain and auth_type and auth_user_name):
        raise ClientError("invalid", "domain, auth_type and auth_user_name must not be empty")
    try:
        return Certificate.from_wire([auth_type, auth_user_name, domain, cert])
    except TheirMistake as problem:
        raise ClientError("invalid", str(problem)) from None


def _pattern(pattern: str) -> Any:
    """A compiled pattern; matching takes time in proportion to the text. Raises ClientError."""
    options = re2.Options()
    options.log_errors = False
    try:
        if len(pattern) > PATTERN_LIMIT:
            raise ValueError(f"it has over {PATTERN_LIMIT} letters")
        return re2.compile(pattern, options)
    except (re2.error, ValueError, OverflowError) as problem:
        raise ClientError("invalid", f"accepted_pattern: {problem}"[:200]) from None


def _replacing(present: Certificate, new: Certificate) -> Question:
    old_text, new_text = present.text, new.text
    return Question(
        "confirm",
        f"Your current certificate is {old_text}.",
        [Choice(YES, f"Change it to {new_text}")],
        (
            "confirm",
            [
                f"Your current certificate <b>{escape(old_text)}</b>",
                f"Change it to {escape(new_text)}",
            ],
        ),
    )


def _selecting(
    fitting: Sequence[Certificate], missing: Sequence[str], selected: Certificate | None
) -> Question:
    issuer = selected.issuer if selected is not None else ""
    offered = [("", _NONE), *((each.issuer, each.user_id) for each in fitting)]
    asked = "Select account you want to use in this site:"
    links = "".join(
        f"<a href='#Select+account' class='select select-close cert"
        f"{' active' if domain == issuer else ''}' title='{escape(domain)}'>"
        f"<b>{escape(label)}</b></a>"
        for domain, label in offered
    )
    registers = "".join(
        f"<a href='/{escape(domain)}' target='_top' class='select'>{escape(domain)}</a>"
        for domain in missing
    )
    lacking = f" It takes certificates of {', '.join(missing)} too." if missing else ""
    return Question(
        "select",
        f"{asked}{lacking}",
        [
            Choice(domain, f"{label} (currently selected)" if domain == issuer else label)
            for domain, label in offered
        ],
        ("notification", ["ask", f"<span>{asked}</span>{links}{registers}"]),
    )
