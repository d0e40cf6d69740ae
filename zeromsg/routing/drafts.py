"""From what a client wants to say to an envelope: sealed, checked, numbered, signed.

`raw` is written here. Its text travels untouched ever after, because hashes
and signatures cover it. Source: ZeroNet peer protocol, peer messages.
"""

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.internet.interfaces import IReactorTime

from zeromsg.crypto.cert import Certificate, verify_cert
from zeromsg.crypto.keys import PrivateKey
from zeromsg.crypto.sealed_message import seal_message
from zeromsg.crypto.shared_keys import group_signed
from zeromsg.crypto.signing import message_text as signed_text
from zeromsg.crypto.signing import sign
from zeromsg.errors import BadKey, ClientError
from zeromsg.interfaces import Entropy, IClient, ISites, IUser, Wall
from zeromsg.policy.rules import Rules
from zeromsg.policy.seen import Met, Seen
from zeromsg.policy.signers import Signers
from zeromsg.policy.site_state import SiteState
from zeromsg.policy.validation import (
    BAD_CERTIFICATE,
    NOT_OF_THE_GROUP,
    Accepted,
    Subject,
    no_rules,
    validate_own,
)
from zeromsg.routing.delivery import Own, receive_event
from zeromsg.routing.inbound import Origin, cert_text, conflict_of, user_of
from zeromsg.routing.recipients import Recipients
from zeromsg.routing.secrecy import Secrecy
from zeromsg.wire.json_text import DEPTH_ERRORS, dump
from zeromsg.wire.names import SELF
from zeromsg.wire.peer_messages import Envelope, envelope_digest

STORED = "stored"

_NONCE_BYTES = 10
"""80 random bits; the plugin has 30, of which two nodes can draw the same."""


@attrs.frozen
class Draft:
    """What a client wants to say.

    site: where; the client's own, or another one under `as`.
    privatekey: None, False, "stored" or a WIF text.
    encrypt: whom it is sealed to, as the client said it, or None.
    """

    client: IClient
    user: IUser
    site: str
    message: Any
    privatekey: Any = None
    immediate: bool = False
    timestamp: bool = False
    encrypt: Any = None


@attrs.frozen
class Finished:
    """A draft that passed the rules, as it travels.

    message, message_text: what travels.
    clear: the message before it was sealed, which its author alone sees; the
    same thing where it was not. user: master address of the author.
    others: further addresses that the signer's user ID has shown.
    """

    site: str
    user: str
    envelope: Envelope
    message: Any
    message_text: str
    clear: Any
    timestamp: float | None
    immediate: bool
    signer: Accepted
    others: tuple[str, ...] = ()

    @property
    def hash(self) -> str:
        return self.envelope.hash

    def event(self, *, ip: str, broadcast: bool) -> str:
        """The parameters of an event as JSON, as others see it."""
        return self._event(ip, broadcast, self.message_text, None)

    def own(self, *, ip: str, broadcast: bool) -> Own | None:
        """How clients of its author see it, where that differs."""
        if self.clear is self.message:
            return None
        opened = {"opened": True, "by": "author"}
        return Own(self.user, self._event(ip, broadcast, dump(self.clear), opened))

    def _event(
        self, ip: str, broadcast: bool, message_text: str, encrypted: Mapping[str, Any] | None
    ) -> str:
        return receive_event(
            ip=ip,
            hash=self.hash,
            message_text=message_text,
            signed_by=self.signer.signed_by,
            cert=cert_text(self.signer),
            site=self.site,
            broadcast=broadcast,
            timestamp=self.timestamp,
            user=user_of(self.signer, self.others),
            encrypted=encrypted,
        )

    def as_reply(self) -> dict[str, Any]:
        return {
            "hash": self.hash,
            "message": self.message,
            "signed_by": self.signer.signed_by,
            "cert": cert_text(self.signer),
            "timestamp": self.timestamp,
            **conflict_of(self.signer, self.others),
        }


class Drafts:
    """Finishes drafts of clients."""

    def __init__(
        self,
        *,
        sites: ISites,
        states: Callable[[str], SiteState[Origin]],
        seen: Seen,
        signers: Signers,
        secrecy: Secrecy,
        recipients: Recipients,
        clock: IReactorTime,
        wall: Wall,
        entropy: Entropy,
        raw_limit: int,
    ) -> None:
        self._sites = sites
        self._states = states
        self._seen = seen
        self._signers = signers
        self._secrecy = secrecy
        self._recipients = recipients
        self._clock = clock
        self._wall = wall
        self._entropy = entropy
        self._raw_limit = raw_limit

    def finish(self, draft: Draft, kind: Mapping[str, Any]) -> Finished:
        """Seal a draft, check it by the site's own rules, then number, sign and hash it.

        kind: the members of `raw` that say how it is sent.
        Raises ClientError.
        """
        site = self._sites.get(draft.site)
        if site is None:
            raise ClientError("unsupported", f"this node does not hold the site {draft.site}")
        if site.rules is None:
            raise no_rules(draft.site).to_client()
        key, cert = self._signer(draft, site.rules)
        signed_by = key.address if key is not None else ""
        signer = Accepted(signed_by, cert, key.public_key if key is not None else b"")
        # Rules look at what travels, so that every node comes to the same opinion.
        message = self._sealed(draft, signed_by)
        message_text = _message_text(message)
        group = self._group_key(draft, site.rules)
        timestamp = self._wall() if draft.timestamp else None
        rejected = validate_own(
            Subject(draft.site, message, message_text, timestamp, SELF, ours=True),
            signer,
            site.rules,
            self._states(draft.site).frequency,
            self._clock.seconds(),
            self._wall(),
        )
        if rejected is not None:
            raise rejected.to_client()
        raw = self._raw(draft, message_text, kind, signed_by, timestamp)
        envelope = self._envelope(raw, key, cert, group)
        met = Met.UNSIGNED
        others: tuple[str, ...] = ()
        if key is not None:
            met, user_id = Met.SIGNED, cert.user_id if cert is not None else None
            others = self._signers.met(draft.site, signed_by, key.public_key, user_id, self._wall())
        self._seen.add(envelope.digest, met, self._wall())
        return Finished(
            site=draft.site,
            user=draft.user.master_address,
            envelope=envelope,
            message=message,
            message_text=message_text,
            clear=draft.message,
            timestamp=timestamp,
            immediate=draft.immediate,
            signer=signer,
            others=others,
        )

    def _sealed(self, draft: Draft, sender: str) -> Any:
        """What travels of the message."""
        if draft.encrypt is None:
            return draft.message
        sealing = self._recipients.resolve(draft.client, draft.user, draft.site, draft.encrypt)
        try:
            return seal_message(
                draft.message,
                sealing.fields,
                sealing.readers,
                site=draft.site,
                sender=sender,
                entropy=self._entropy,
                hidden=sealing.hidden,
            )
        except DEPTH_ERRORS as problem:
            raise ClientError("invalid", f"the message cannot be sealed: {problem}") from None

    def _group_key(self, draft: Draft, rules: Rules) -> PrivateKey | None:
        if rules.group is None:
            return None
        key = self._secrecy.group_key(draft.client, draft.site, rules.group)
        if key is None:
            raise NOT_OF_THE_GROUP.to_client()
        return key

    def _raw(
        self,
        draft: Draft,
        message_text: str,
        kind: Mapping[str, Any],
        signed_by: str,
        timestamp: float | None,
    ) -> str:
        values: dict[str, Any] = {**kind, "immediate": draft.immediate, "site": draft.site}
        if timestamp is not None:
            values["timestamp"] = timestamp
        # Of an unsigned message as well: otherwise whoever passes it on could sign it as theirs.
        values["signer"] = signed_by
        # The message was encoded already; only what stands beside it is encoded here.
        return f'{{"message": {message_text}, {dump(values)[1:]}'

    def _envelope(
        self,
        raw: str,
        key: PrivateKey | None,
        cert: Certificate | None,
        group: PrivateKey | None,
    ) -> Envelope:
        nonce = str(int.from_bytes(self._entropy(_NONCE_BYTES)))
        if group is not None:
            raw = group_signed(raw, nonce, group)
        if len(raw) > self._raw_limit:
            raise ClientError("too-big", f"the message takes over {self._raw_limit} bytes")
        digest = envelope_digest(nonce, raw)
        signature = ""
        if key is not None:
            signature = f"{key.address}|{sign(signed_text(key.address, digest.hex(), raw), key)}"
        return Envelope(raw, nonce, signature, cert.to_wire() if cert else None, None, digest)

    def _signer(self, draft: Draft, rules: Rules) -> tuple[PrivateKey | None, Certificate | None]:
        wanted = draft.privatekey
        if wanted is None:
            return None, None
        if wanted is False:
            own, cert = draft.user.auth_key(draft.site), draft.user.certificate(draft.site)
            if cert is None or cert.issuer not in rules.cert_signers:
                return own, None
            # Pages add certificates. What no peer would believe, nobody here is shown either.
            if not verify_cert(own.address, cert, rules.cert_signers):
                raise BAD_CERTIFICATE.to_client()
            return own, cert
        if wanted == STORED:
            key = draft.user.site_key(draft.site)
            if key is None:
                raise ClientError("denied", f"this node has no key of the site {draft.site}")
            return key, None
        try:
            return PrivateKey.from_wif(wanted), None
        except BadKey:
            raise ClientError("invalid", "privatekey is no private key") from None


def _message_text(message: Any) -> str:
    try:
        return dump(message)
    except DEPTH_ERRORS:
        raise ClientError("invalid", "the message is no JSON") from None
