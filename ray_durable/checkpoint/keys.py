"""Signing and encryption of stored objects, with keys that can be rotated.

A key is named by the first 8 bytes of its blake3 hash, which stands in each object: whoever reads needs the key of that
name among its keys, and what is written uses the first. Rotate by putting the new key first and keeping the old one
until nothing needs it (`ray-durable store stats` counts objects per key).

Each key does one thing: a signature is HMAC-SHA256 of the object's digest; encryption is AES-256-GCM of its body under
a random nonce, bound to the object's footer, so that a body cannot be moved to another name.
"""

from __future__ import annotations

import hmac
import os
import re
from collections.abc import Sequence
from typing import Any

from blake3 import blake3

from ray_durable.config import Secret, Settings
from ray_durable.errors import DamagedError, SettingError

NO_KEY = bytes(8)
NO_SIGNATURE = bytes(32)
NONCE_BYTES = 12
HEX = re.compile(r"(?:[0-9a-fA-F]{2}){16,}")


class Keys:
    """The keys of one store. `signing` and `encryption`: newest first, each written by the first and read by all.

    With a signing key, unsigned objects are refused; with an encryption key, unencrypted ones are.
    Raises: ValueError for a signing key below 16 bytes or an encryption key of other than 32.
    Example: keys = Keys(signing=[new, old])
    """

    def __init__(self, signing: Sequence[bytes] = (), encryption: Sequence[bytes] = ()) -> None:
        if any(len(key) < 16 for key in signing):
            raise ValueError("a signing key has at least 16 bytes")
        if any(len(key) != 32 for key in encryption):
            raise ValueError("an encryption key has 32 bytes")
        self.signing = {key_id(key): key for key in signing}
        self.encryption = {key_id(key): key for key in encryption}
        self.signing_id = next(iter(self.signing), NO_KEY)
        self.encryption_id = next(iter(self.encryption), NO_KEY)
        self.encryption_required = bool(self.encryption)
        self.ciphers: dict[bytes, Any] = {}

    def __repr__(self) -> str:
        return f"<Keys: {len(self.signing)} for signing, {len(self.encryption)} for encryption>"

    def sign(self, digest: bytes) -> bytes:
        if self.signing_id == NO_KEY:
            return NO_SIGNATURE
        return hmac.digest(self.signing[self.signing_id], digest, "sha256")

    def verify(self, name: str, signing_id: bytes, digest: bytes, signature: bytes) -> None:
        """Raises: DamagedError for an object that is unsigned, forged, or signed by a key not at hand."""
        if signing_id == NO_KEY and signature != NO_SIGNATURE:
            raise DamagedError("read", name, "it has a signature and says that it has none", -1)
        if not self.signing:
            return
        if signing_id == NO_KEY:
            raise DamagedError("read", name, "it is not signed, though a signing key is set", -1)
        key = self.signing.get(signing_id)
        if key is None:
            raise DamagedError("read", name, f"it is signed by key {signing_id.hex()}, which is not at hand", -1)
        if not hmac.compare_digest(hmac.digest(key, digest, "sha256"), signature):
            raise DamagedError("read", name, "its signature is forged, or its bytes were changed", -1)

    def encrypt(self, body: Any, footer: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return nonce + bytes(self.cipher(self.encryption_id).encrypt(nonce, bytes(body), footer))

    def decrypt(self, name: str, encryption_id: bytes, body: memoryview, footer: memoryview) -> bytes:
        """Raises: DamagedError."""
        from cryptography.exceptions import InvalidTag

        if encryption_id not in self.encryption:
            raise DamagedError("read", name, f"it is encrypted by key {encryption_id.hex()}, which is not at hand", -1)
        try:
            plain = self.cipher(encryption_id).decrypt(
                bytes(body[:NONCE_BYTES]), bytes(body[NONCE_BYTES:]), bytes(footer)
            )
        except (InvalidTag, ValueError):
            raise DamagedError(
                "read", name, "it cannot be decrypted: changed, or moved from another name", -1
            ) from None
        return bytes(plain)

    def cipher(self, encryption_id: bytes) -> Any:
        if encryption_id not in self.ciphers:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM

            self.ciphers[encryption_id] = AESGCM(self.encryption[encryption_id])
        return self.ciphers[encryption_id]


def key_id(key: bytes) -> bytes:
    """The name of a key, which may be shown: it does not help to guess a random key."""
    return bytes(blake3(b"ray_durable key id" + key).digest(8))


NO_KEYS = Keys()


def keys_of(settings: Settings) -> Keys:
    """The keys that the settings give: hexadecimal digits or raw bytes, several separated by commas, newest first.

    Raises: SettingError for a key of the wrong length.
    """
    signing, encryption = key_bytes(settings.signing_key), key_bytes(settings.encryption_key)
    if any(len(key) < 16 for key in signing):
        raise SettingError("signing_key", None, "a signing key has at least 16 bytes, or 32 hexadecimal digits")
    if any(len(key) != 32 for key in encryption):
        raise SettingError("encryption_key", None, "an encryption key has 32 bytes, or 64 hexadecimal digits")
    return Keys(signing, encryption) if signing or encryption else NO_KEYS


def key_bytes(secret: Secret | None) -> list[bytes]:
    if secret is None:
        return []
    value = secret.reveal()
    if not (value.isascii() and value.decode().isprintable()):
        return [value]
    parts = [part.strip() for part in value.decode().split(",")]
    return [bytes.fromhex(part) if HEX.fullmatch(part) else part.encode() for part in parts if part]
