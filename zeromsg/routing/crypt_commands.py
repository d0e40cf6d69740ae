"""Commands that encrypt, decrypt, sign and verify: those of ZeroNet's CryptMessage plugin.

What a key does not open is null and what is not signed is false, as there;
where ZeroNet fails without an answer, it is `invalid`. Keys are the caller's:
nothing here is for other sites. Lists are worked on in slices, so that
everything else goes on meanwhile.
Source: ZeroFrame API, CryptMessage.
"""

import base64
import binascii
from collections import Counter
from collections.abc import Awaitable, Iterator, Sequence
from typing import Any

from twisted.internet.interfaces import IReactorTime

from zeromsg.crypto import crypt_message, signing
from zeromsg.crypto.crypt_message import BOX_LIMIT, KEY_BYTES, TEXT_LIMIT
from zeromsg.crypto.derivation import ENCRYPTION_KEYS
from zeromsg.crypto.keys import PrivateKey, address_of, is_public_key
from zeromsg.errors import BadKey, ClientError
from zeromsg.interfaces import Entropy, IClient
from zeromsg.routing.binding import Parameter, anything, boolean, optional_text, text, whole
from zeromsg.routing.calling import Command, Context, Table
from zeromsg.routing.slices import Slices

ITEMS_LIMIT = 5000
"""Ciphertexts, keys or addresses in one call."""

LIST_LIMIT = 4 * 1024 * 1024
"""Characters of all ciphertexts in one call."""

TRIALS_LIMIT = 100_000
"""Ciphertexts times keys in one call."""

TRIED_LIMIT = 64 * 1024 * 1024
"""Characters of all ciphertexts times keys in one call."""

LISTS_LIMIT = 8
"""Calls with lists of one client that are worked on at a time."""

_BASE64_LIMIT = 4 * -(-BOX_LIMIT // 3)

_Text = str | None


def _payload(name: str, value: Any) -> str:
    """A text to encrypt or sign."""
    if not isinstance(value, str):
        raise ClientError("invalid", f"{name} must be a text")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise ClientError("invalid", f"{name} has characters that are none in UTF-8") from None
    if size > TEXT_LIMIT:
        raise ClientError("too-big", f"{name} takes over {TEXT_LIMIT} bytes")
    return value


_index = whole(0, ENCRYPTION_KEYS - 1)


def _recipient(name: str, value: Any) -> Any:
    """The index of a key of one's own, or a public key."""
    if isinstance(value, str):
        return text(name, value)
    return _index(name, value)


_DATA = Parameter("data", _payload)


class CryptCommands:
    """eciesEncrypt and the like.

    clock: tells the slices of long work apart.
    """

    def __init__(self, entropy: Entropy, clock: IReactorTime) -> None:
        self._entropy = entropy
        self._lists: Counter[IClient] = Counter()
        self._slices = Slices(clock)

    def table(self) -> Table:
        return {
            "userPublickey": Command((Parameter("index", _index, 0),), self._user_publickey),
            "eciesEncrypt": Command(
                (
                    Parameter("text", _payload),
                    Parameter("publickey", _recipient, 0),
                    Parameter("return_aes_key", boolean, False),
                ),
                self._ecies_encrypt,
            ),
            "eciesDecrypt": Command(
                (Parameter("param", anything), Parameter("privatekey", anything, 0)),
                self._ecies_decrypt,
            ),
            "aesEncrypt": Command(
                (Parameter("text", _payload), Parameter("key", optional_text, None)),
                self._aes_encrypt,
            ),
            "aesDecrypt": Command(
                (
                    Parameter("iv", anything),
                    Parameter("encrypted_text", anything),
                    Parameter("key", optional_text, None),
                ),
                self._aes_decrypt,
            ),
            "ecdsaSign": Command(
                (_DATA, Parameter("privatekey", optional_text, None)), self._ecdsa_sign
            ),
            "ecdsaVerify": Command(
                (_DATA, Parameter("address", anything), Parameter("signature", anything)),
                self._ecdsa_verify,
            ),
            "eccPrivToPub": Command((Parameter("privatekey", text),), self._ecc_priv_to_pub),
            "eccPubToAddr": Command((Parameter("publickey", text),), self._ecc_pub_to_addr),
        }

    # Each handler below is one command of the API.

    def _user_publickey(self, context: Context, index: int) -> str:
        return _to_base64(_own_key(context, index).compressed_public_key)

    def _ecies_encrypt(
        self, context: Context, text: str, publickey: int | str, return_aes_key: bool
    ) -> str | list[str]:
        if isinstance(publickey, int):
            public_key = _own_key(context, publickey).compressed_public_key
        else:
            public_key = _from_base64(publickey) or b""
        try:
            sealed = crypt_message.seal(text, public_key, self._entropy)
        except BadKey as error:
            raise ClientError("invalid", f"publickey is no public key: {error}") from None
        box = _to_base64(sealed.box)
        return [box, _to_base64(sealed.aes_key)] if return_aes_key else box

    def _ecies_decrypt(
        self, context: Context, param: Any, privatekey: Any
    ) -> _Text | Awaitable[list[_Text]]:
        key = _decryption_key(context, privatekey)
        if not isinstance(param, list):
            _check_sizes([param])
            return _open(param, key)
        _check_count("param", param)
        _check_sizes(param)
        texts: list[_Text] = []
        return self._work_off(context.client, _open_each(param, key, texts), texts)

    def _aes_encrypt(self, context: Context, text: str, key: str | None) -> list[str]:
        # An empty key is none, as in ZeroNet.
        aes_key = _from_base64(key) if key else self._entropy(KEY_BYTES)
        try:
            iv, ciphertext = crypt_message.aes_encrypt(text, aes_key or b"", self._entropy)
        except BadKey as error:
            raise ClientError("invalid", f"key is none: {error}") from None
        return [_to_base64(aes_key or b""), _to_base64(iv), _to_base64(ciphertext)]

    def _aes_decrypt(
        self, context: Context, iv: Any, encrypted_text: Any, key: str | None
    ) -> _Text | Awaitable[list[_Text]]:
        if not isinstance(iv, list):
            if key is None:
                raise ClientError("invalid", "aesDecrypt needs the parameter key, or two lists")
            pair = _pair([iv, encrypted_text])
            _check_sizes(pair)
            return _try(_from_base64(pair[0]), _from_base64(pair[1]), _from_base64(key))
        if key is not None:
            raise ClientError("invalid", "aesDecrypt takes one iv with one key, or two lists")
        _check_count("the list of texts", iv)
        _check_count("the list of keys", encrypted_text)
        pairs, keys = [_pair(item) for item in iv], [_shared_key(item) for item in encrypted_text]
        characters = _check_sizes([part for pair in pairs for part in pair])
        if len(pairs) * len(keys) > TRIALS_LIMIT or characters * len(keys) > TRIED_LIMIT:
            raise ClientError("too-big", "too many keys for so many texts in one call")
        texts: list[_Text] = []
        return self._work_off(context.client, _try_each(pairs, keys, texts), texts)

    def _ecdsa_sign(self, context: Context, data: str, privatekey: str | None) -> str:
        if privatekey is None:
            # A zite can so sign any text in the person's name. ZeroNet lets it.
            return signing.sign(data, context.user.auth_key(context.site))
        return signing.sign(data, _private_key(privatekey))

    def _ecdsa_verify(self, context: Context, data: str, address: Any, signature: Any) -> bool:
        if isinstance(address, list):
            _check_count("address", address)
        if not isinstance(signature, str):
            return False
        public_key = signing.recover_public_key(data, signature)
        if public_key is None:
            return False
        signer = address_of(public_key)
        return signer in address if isinstance(address, list) else signer == address

    def _ecc_priv_to_pub(self, context: Context, privatekey: str) -> str:
        return _private_key(privatekey).public_key.hex()

    def _ecc_pub_to_addr(self, context: Context, publickey: str) -> str:
        try:
            public_key = bytes.fromhex(publickey)
        except ValueError:
            raise ClientError("invalid", "publickey must be in hex digits") from None
        if not is_public_key(public_key):
            raise ClientError("invalid", "publickey is no public key")
        return address_of(public_key)

    # Lists.

    async def _work_off(
        self, client: IClient, steps: Iterator[None], texts: list[_Text]
    ) -> list[_Text]:
        """Take all steps, between everything else, and give the texts that they have made."""
        if self._lists[client] >= LISTS_LIMIT:
            raise ClientError("too-fast", f"{LISTS_LIMIT} lists are being worked on already")
        self._lists[client] += 1
        try:
            await self._slices.work_off(steps)
        finally:
            self._lists[client] -= 1
            if not self._lists[client]:
                del self._lists[client]
        return texts


def _open_each(items: Sequence[Any], key: PrivateKey | None, texts: list[_Text]) -> Iterator[None]:
    for item in items:
        texts.append(_open(item, key))
        yield


def _try_each(
    pairs: Sequence[Sequence[str]], keys: Sequence[bytes | None], texts: list[_Text]
) -> Iterator[None]:
    """The last key that gives a text counts, so they are tried from the end."""
    for pair in pairs:
        iv, ciphertext = map(_from_base64, pair)
        yield
        text = None
        for key in reversed(keys):
            text = _try(iv, ciphertext, key)
            yield
            if text is not None:
                break
        texts.append(text)


def _open(item: Any, key: PrivateKey | None) -> _Text:
    box = _from_base64(item) if isinstance(item, str) else None
    return None if box is None or key is None else crypt_message.open_sealed(box, key)


def _try(iv: bytes | None, ciphertext: bytes | None, key: bytes | None) -> _Text:
    if iv is None or ciphertext is None or key is None:
        return None
    return crypt_message.aes_decrypt(iv, ciphertext, key)


# What clients give.


def _own_key(context: Context, index: int) -> PrivateKey:
    return context.user.encryption_key(context.site, index)


def _private_key(wif: str) -> PrivateKey:
    try:
        return PrivateKey.from_wif(wif)
    except BadKey:
        raise ClientError("invalid", "privatekey is no private key") from None


def _decryption_key(context: Context, privatekey: Any) -> PrivateKey | None:
    """None for what is no key: it opens nothing."""
    if type(privatekey) is int:
        return _own_key(context, _index("privatekey", privatekey))
    try:
        return PrivateKey.from_wif(privatekey) if isinstance(privatekey, str) else None
    except BadKey:
        return None


def _pair(item: Any) -> Sequence[str]:
    if (
        not isinstance(item, list)
        or len(item) != 2
        or not all(isinstance(part, str) for part in item)
    ):
        raise ClientError("invalid", "iv and encrypted text must be two texts")
    return item


def _shared_key(item: Any) -> bytes | None:
    """None for text that is no key: it opens nothing."""
    return _from_base64(text("a key", item))


def _check_count(name: str, items: Any) -> None:
    if not isinstance(items, list):
        raise ClientError("invalid", f"{name} must be a list")
    if len(items) > ITEMS_LIMIT:
        raise ClientError("too-big", f"{name} has over {ITEMS_LIMIT} entries")


def _check_sizes(items: Sequence[Any]) -> int:
    """The characters of all texts, which may not be too many."""
    sizes = [len(item) for item in items if isinstance(item, str)]
    if max(sizes, default=0) > _BASE64_LIMIT:
        raise ClientError("too-big", f"a ciphertext has over {_BASE64_LIMIT} characters")
    if sum(sizes) > LIST_LIMIT:
        raise ClientError("too-big", f"the ciphertexts have over {LIST_LIMIT} characters")
    return sum(sizes)


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _from_base64(text: str) -> bytes | None:
    """As leniently as ZeroNet: foreign characters are skipped. None if the padding is wrong."""
    try:
        return binascii.a2b_base64(text)
    except ValueError:
        return None
