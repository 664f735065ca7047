"""Signatures of published versions: who may have made what is loaded.

What is signed are a manifest's bytes, which hold the version's name and number and the size
and digest of every file, after a line that names the purpose and the project. Without the
project a version could be copied to the same name in another project, where it is somebody
else's model; what the manifest holds need not be told twice.
"""

# pyright: reportReturnType=false
# (a Protocol's methods have words, and no bodies)

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pydantic import Field

from histill.core.projects import DEFAULT
from histill.core.service_settings import Part

SIGNATURE = "manifest.sig"


class SigningSettings(Part):
    """PEM files of Ed25519 keys."""

    key: str = Field(default="", description="private key; what is published is signed with it")
    trusted: str = Field(
        default="", description="public keys, one or more; only what they signed is loaded"
    )


class Signer(Protocol):
    """Signs with a private key."""

    def sign(self, statement: bytes) -> bytes:
        """A signature as it is stored: which key, and what it says."""


class Verifier(Protocol):
    """Knows the public keys that are trusted."""

    def check(self, statement: bytes, signature: bytes) -> None:
        """Returns when a trusted key made the signature for the statement.

        Raises:
            UntrustedArtifactError: None did; says why.
        """


@dataclass(frozen=True)
class Signing:
    """What a process does about signatures.

    Attributes:
        signer: Signs what is published; ``None`` leaves it unsigned.
        verifier: Must approve what is loaded; ``None`` approves of all.
    """

    signer: Signer | None = None
    verifier: Verifier | None = None


def statement(manifest: bytes, *, project: str = DEFAULT) -> bytes:
    """What is signed for a version.

    Args:
        manifest: As it is stored.
        project: That it belongs to.
    """
    return f"histill manifest v1 project={project}\n".encode() + manifest
