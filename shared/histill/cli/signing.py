"""``histill signing`` and ``histill models verify``: who made a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from histill.cli.output import say
from histill.core.projects import DEFAULT

app = typer.Typer(no_args_is_help=True, help="Keys with which published models are signed.")


@app.command("new-key")
def new_key(folder: Annotated[Path, typer.Argument(help="Made when missing.")]) -> None:
    """Makes a pair of keys: one signs, the other is given to whoever loads models."""
    from histill.adapters.ed25519 import PRIVATE, PUBLIC, new_pair

    made = new_pair(folder)
    say(f"made the key {made}")
    say(f"registry and workers: HISTILL_SIGNING__KEY={folder / PRIVATE}  (keep it secret)")
    say(f"inference and workers: HISTILL_SIGNING__TRUSTED={folder / PUBLIC}")


def verify(
    reference: Annotated[str, typer.Argument(help="name, name@3 or name@alias.")],
    key: Annotated[
        Path, typer.Option(help="PEM file of trusted public keys.", exists=True, dir_okay=False)
    ],
    project: Annotated[str, typer.Option(help="That the model belongs to.")] = DEFAULT,
) -> None:
    """Checks a model's signature and every file of it, in S3 (HISTILL_S3__*)."""
    from histill.adapters.ed25519 import Ed25519Verifier
    from histill.cli.stores import load_store_settings, open_store
    from histill.core import catalog
    from histill.core.catalog import MODELS
    from histill.core.names import parse_reference
    from histill.core.projects import scoped
    from histill.core.trust import check_signature

    verifier = Ed25519Verifier.load(key)
    parse_reference(reference, field="reference")
    store = scoped(open_store(load_store_settings()), project)
    manifest = catalog.find(store, MODELS, reference)
    check_signature(store, MODELS, manifest, verifier, project=project)
    for file in manifest.files:
        for _ in catalog.read_file(store, MODELS, manifest, file):
            pass
    say(f"{manifest.reference} is signed, and its {len(manifest.files)} files are what was signed")
