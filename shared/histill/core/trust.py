"""Whether a version may be loaded: who signed it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from histill.core.errors import NotFoundError, UntrustedArtifactError
from histill.core.projects import DEFAULT
from histill.core.signing import SIGNATURE, statement

if TYPE_CHECKING:
    from histill.core.catalog import M, Shelf
    from histill.core.ports import ObjectStore
    from histill.core.signing import Verifier


def check_signature(
    store: ObjectStore,
    shelf: Shelf[M],
    manifest: M,
    verifier: Verifier | None,
    *,
    project: str = DEFAULT,
) -> None:
    """Returns when a version that was found is signed by somebody whom we trust.

    Args:
        store: Where it lies.
        shelf: ``MODELS`` or ``DATASETS``.
        manifest: As it was found; this, and not only what is stored now, is what is checked.
        verifier: Knows whom; ``None`` trusts everybody.
        project: That ``store`` belongs to.

    Raises:
        UntrustedArtifactError: It is not; says why.
        NotFoundError: It is gone.
    """
    if verifier is None:
        return
    prefix = shelf.prefix(manifest.name, manifest.version)
    data = store.get(f"{prefix}manifest.json")
    try:
        verifier.check(statement(data, project=project), store.get(prefix + SIGNATURE))
    except NotFoundError:
        raise UntrustedArtifactError(
            f"{manifest.reference} is not signed, and HISTILL_SIGNING__TRUSTED asks for it"
        ) from None
    except UntrustedArtifactError as exc:
        raise UntrustedArtifactError(f"{manifest.reference}: {exc}") from exc
    if shelf.manifest_type.model_validate_json(data) != manifest:
        raise UntrustedArtifactError(f"{manifest.reference} changed while it was read")
