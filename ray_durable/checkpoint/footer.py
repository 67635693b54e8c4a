"""What stands behind every object of a log and vouches for it: who wrote it, as which, and a digest of all before.

The digest is blake3 over body and footer, so a torn or flipped object is refused as a whole before anything in it is
believed; a signature covers the digest, encryption the body. The nonce tells a writer its own object from another's.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import Any

from blake3 import blake3

from ray_durable.checkpoint.keys import NO_KEY, NO_KEYS, Keys
from ray_durable.checkpoint.names import WRITER
from ray_durable.errors import DamagedError

VERSION = 1
MAGIC = b"rdurable"

# magic, version, form, flags, length of the writer's name, number, time in ms, nonce, keys of signature and encryption,
# digest of the metadata columns | digest of all before it | signature of that digest
SIGNED = struct.Struct("<8sBBBHQQ16s8s8s16s")
FOOTER_BYTES = SIGNED.size + 32 + 32
PACKED = 1
"""Flag: the body is not Arrow's but in the short form of small objects."""
TIMED = 2
"""Flag: in the short form, each record's own time stands before the columns."""
NO_METADATA = bytes(16)


class Form(enum.IntEnum):
    """What an object of a log is. The numbers are stored: never reuse one."""

    RECORDS = 1
    SEAL = 2
    BASE = 3
    PART = 4
    CHUNKS = 5
    PLAN = 6
    ARCHIVE = 7
    CODE = 8


def wrap(
    writer: str,
    number: int,
    nonce: bytes,
    body: Any,
    form: Form,
    keys: Keys = NO_KEYS,
    *,
    metadata: bytes = NO_METADATA,
    flags: int = 0,
    time_ms: int = 0,
) -> bytes:
    """`body` with its footer; encrypted and signed if there are keys."""
    name = writer.encode()
    footer = name + SIGNED.pack(
        MAGIC, VERSION, form, flags, len(name), number, time_ms, nonce, keys.signing_id, keys.encryption_id, metadata
    )
    if keys.encryption_id != NO_KEY:
        body = keys.encrypt(body, footer)
    digest = blake3(body).update(footer).digest()
    return b"".join((body, footer, digest, keys.sign(digest)))


@dataclass(frozen=True, slots=True)
class Footer:
    """Who wrote an object, as which, and what its bytes must come to."""

    writer: str
    number: int
    form: Form
    flags: int
    time_ms: int
    nonce: bytes
    signing_id: bytes
    encryption_id: bytes
    metadata: bytes
    digest: bytes
    signature: bytes
    start: int
    """Where the footer begins, which is where the body ends."""


def read_footer(name: str, data: bytes) -> Footer:
    """The footer of an object, unverified. Raises: DamagedError for bytes that have none."""
    if len(data) < FOOTER_BYTES:
        raise DamagedError("read", name, f"{len(data)} bytes are too few for a footer", 0)
    magic, version, form, flags, length, number, time_ms, nonce, signing, encryption, metadata = SIGNED.unpack_from(
        data, len(data) - FOOTER_BYTES
    )
    if magic != MAGIC:
        raise DamagedError("read", name, "its footer is not ours, or cut off", len(data) - FOOTER_BYTES)
    if version != VERSION:
        raise DamagedError("read", name, f"it has version {version} and this code reads {VERSION}", -1)
    start = len(data) - FOOTER_BYTES - length
    if start < 0 or form not in Form.__members__.values():
        raise DamagedError("read", name, "its footer makes no sense", len(data) - FOOTER_BYTES)
    try:
        writer = data[start : start + length].decode()
    except UnicodeDecodeError:
        writer = ""
    if not WRITER.match(writer):
        raise DamagedError("read", name, "its writer's name makes no sense", start)
    digest, signature = data[-64:-32], data[-32:]
    return Footer(
        writer, number, Form(form), flags, time_ms, nonce, signing, encryption, metadata, digest, signature, start
    )


def unwrap(name: str, data: bytes, keys: Keys = NO_KEYS) -> tuple[Footer, memoryview]:
    """An object's verified footer and its body, decrypted. Raises: DamagedError."""
    footer = read_footer(name, data)
    view = memoryview(data)
    if blake3(view[: len(data) - 64]).digest() != footer.digest:
        raise DamagedError("read", name, "its digest does not fit its bytes", 0)
    keys.verify(name, footer.signing_id, footer.digest, footer.signature)
    body = view[: footer.start]
    if footer.encryption_id != NO_KEY:
        body = memoryview(keys.decrypt(name, footer.encryption_id, body, view[footer.start : len(data) - 64]))
    elif keys.encryption_required:
        raise DamagedError("read", name, "it is not encrypted, though an encryption key is set", -1)
    return footer, body
