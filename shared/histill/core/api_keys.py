"""What an API key looks like: ``hst_``, 30 letters and digits, and six that are a checksum.

The prefix lets secret scanners find keys that were left in code; the checksum spares them
false alarms, and tells a holder of a typing error. As GitHub's tokens do:
https://github.blog/engineering/behind-githubs-new-authentication-token-formats/.
"""

from __future__ import annotations

import hashlib
import secrets
import string
import zlib

PREFIX = "hst_"
_LETTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_SECRET = 30  # letters of 62 kinds: 178 bits
_CHECK = 6


def new_secret() -> str:
    """A fresh key, from the system's random source."""
    secret = "".join(secrets.choice(_LETTERS) for _ in range(_SECRET))
    return f"{PREFIX}{secret}{_checksum(secret)}"


def is_whole(text: str) -> bool:
    """Whether a text is a key as ``new_secret`` makes them, without typing errors."""
    body = text.removeprefix(PREFIX)
    if not text.startswith(PREFIX) or len(body) != _SECRET + _CHECK:
        return False
    return body[_SECRET:] == _checksum(body[:_SECRET])


def digest(secret: str) -> str:
    """What is stored of a key: its SHA-256 in lower-case hexadecimal.

    No slow hash: 178 random bits cannot be guessed, and every call would pay for it.
    """
    return hashlib.sha256(secret.encode()).hexdigest()


def _checksum(secret: str) -> str:
    number, text = zlib.crc32(secret.encode()), ""
    for _ in range(_CHECK):
        number, digit = divmod(number, len(_LETTERS))
        text = _LETTERS[digit] + text
    return text
