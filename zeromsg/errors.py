"""The error family, under everything else.

Who erred decides who pays: `TheirMistake` costs the sender points or the
connection, `OurMistake` is a bug, `Unreachable` is nobody's fault and becomes
an entry of a result, `ClientError` reaches the page, `ConfigError` stops the
start.
"""


class ZeromsgError(Exception):
    """Base of every error this package raises on purpose."""


class TheirMistake(ZeromsgError):
    """A stranger sent something wrong.

    points: ban points the sender is charged; 100 bans.
    ours: other nodes are less strict there, so one that passes it on may have done no wrong.
    """

    def __init__(self, text: str, points: int = 7, ours: bool = False) -> None:
        super().__init__(text)
        self.points = points
        self.ours = ours


class OurMistake(ZeromsgError):
    """A state that the code promises cannot be reached."""


class Unreachable(ZeromsgError):
    """A peer could not be asked, or did not answer in time."""


class NotTried(Unreachable):
    """A peer was not even dialled, for a reason that lies here: it says nothing of the peer."""


class ClientError(ZeromsgError):
    """A refusal that a client is told: `{"error": "<code>: <sentence>"}`.

    code: one of `unsupported`, `invalid`, `too-big`, `too-fast`, `unsigned`,
    `denied`, `no-peer`, `timeout`, `closed`, `internal`.
    """

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(f"{code}: {sentence}")
        self.code = code
        self.sentence = sentence


class ConfigError(ZeromsgError):
    """A configuration that cannot be used: says where, what and what was expected."""


class CannotStore(ConfigError):
    """A file of the node cannot be read or written, whatever the configuration says.

    A start fails with it. With the database a running node waits and tries again.
    """


class BadKey(ZeromsgError):
    """Text that is no private key, public key or seed."""


class ContentRefused(TheirMistake):
    """A content.json or a file of a site that must not be stored; the text says why."""


class FileMissing(ZeromsgError):
    """A site does not hold the file that was asked for."""
