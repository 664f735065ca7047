"""Ed25519 signatures (RFC 8032) over PEM files of keys, through ``cryptography``."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from histill.core.errors import AlreadyExistsError, SettingsError, UntrustedArtifactError
from histill.core.signing import Signing

if TYPE_CHECKING:
    from histill.core.signing import SigningSettings

PRIVATE, PUBLIC = "signing.pem", "trusted.pem"
_ALGORITHM = "ed25519"
_PUBLIC_KEY = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)


@dataclass(frozen=True)
class Ed25519Signer:
    """Implements ``Signer``."""

    key: Ed25519PrivateKey

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a private key in PEM, without a password.

        Raises:
            SettingsError: There is none; says what to do.
        """
        try:
            found = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
            found = None
        if not isinstance(found, Ed25519PrivateKey):
            raise SettingsError(
                f"HISTILL_SIGNING__KEY {path} holds no Ed25519 private key in PEM without a "
                "password; make one with: histill signing new-key FOLDER"
            )
        return cls(found)

    def sign(self, statement: bytes) -> bytes:
        """A signature as JSON, with the key's id."""
        fields = {
            "algorithm": _ALGORITHM,
            "key": key_id(self.key.public_key()),
            "signature": base64.b64encode(self.key.sign(statement)).decode(),
        }
        return json.dumps(fields).encode()


@dataclass(frozen=True)
class Ed25519Verifier:
    """Implements ``Verifier``.

    Attributes:
        keys: By their ids.
    """

    keys: dict[str, Ed25519PublicKey]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads public keys in PEM, one after the other.

        Raises:
            SettingsError: There is none, or one is of another kind.
        """
        try:
            found = [serialization.load_pem_public_key(pem) for pem in _blocks(path)]
        except (OSError, ValueError, UnsupportedAlgorithm):
            found = []
        keys = [key for key in found if isinstance(key, Ed25519PublicKey)]
        if not keys or len(keys) != len(found):
            raise SettingsError(
                f"HISTILL_SIGNING__TRUSTED {path} must hold Ed25519 public keys in PEM, one after "
                "the other, and nothing else; histill signing new-key FOLDER makes a pair"
            )
        return cls({key_id(key): key for key in keys})

    def check(self, statement: bytes, signature: bytes) -> None:
        """Returns when a trusted key made the signature for the statement."""
        try:
            fields = json.loads(signature)
            named, raw = fields["key"], base64.b64decode(fields["signature"], validate=True)
            known = fields["algorithm"] == _ALGORITHM
        except (ValueError, TypeError, KeyError):
            raise UntrustedArtifactError("its signature cannot be read") from None
        key = self.keys.get(named) if known and isinstance(named, str) else None
        if key is None:
            raise UntrustedArtifactError(
                "it is signed with a key that is not in HISTILL_SIGNING__TRUSTED"
            )
        try:
            key.verify(raw, statement)
        except InvalidSignature:
            raise UntrustedArtifactError(
                "its signature is not for this name, version, project and content"
            ) from None


def load_signing(settings: SigningSettings) -> Signing:
    """What the settings say about signatures.

    Raises:
        SettingsError: A file cannot be used.
    """
    return Signing(
        signer=Ed25519Signer.load(Path(settings.key)) if settings.key else None,
        verifier=Ed25519Verifier.load(Path(settings.trusted)) if settings.trusted else None,
    )


def new_pair(folder: Path) -> str:
    """Writes a private key, for its owner alone, and its public key; returns their id.

    Raises:
        AlreadyExistsError: One of the files is there already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for name in (PRIVATE, PUBLIC):
        if (folder / name).exists():
            raise AlreadyExistsError(f"{folder / name} exists and is not overwritten")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(folder / PRIVATE, flags, 0o600), "wb") as out:
        out.write(private)
    (folder / PUBLIC).write_bytes(public)
    return key_id(key.public_key())


def key_id(key: Ed25519PublicKey) -> str:
    """The first 16 digits of the SHA-256 of a public key's 32 bytes."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def _blocks(path: Path) -> list[bytes]:
    return _PUBLIC_KEY.findall(path.read_bytes())
