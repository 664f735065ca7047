"""``histill privacy``: what models and samples tell about images, and how images go."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from histill.cli.audit_examples import (
    Labels,
    check_disjoint,
    confidences,
    find_examples,
    number_objects,
)
from histill.cli.local_models import LocalModel, fetch
from histill.cli.neighbours import neighbours
from histill.cli.output import JsonFlag, print_json, print_table, say
from histill.cli.purge import purge
from histill.client import Client
from histill.core.errors import InvalidArgumentError
from histill.ml.membership import MIN_REFERENCES, Attack, loss_attack, reference_attack

app = typer.Typer(no_args_is_help=True, help="What models and samples tell about images; removal.")

_MEMBERS, _NON_MEMBERS, _REFERENCE = (
    "--members",
    "--non-members",
    "--reference",
)
_HOW_TO_READ = (
    "An AUC of 0.5 is a guess. An interval wholly above 0.5 means that the attack tells images "
    "of the training from others; one that holds 0.5, that so many images show no difference. "
    "Members and non-members must come from one source, or the attack finds the source."
)


@app.command()
def audit(
    models: Annotated[list[str], typer.Argument(metavar="MODEL", help="name@3 or name@alias.")],
    members: Annotated[
        Path,
        typer.Option(
            help="images/ and labels/ that the teachers were trained on; for models that "
            "classify, one folder of images a class."
        ),
    ],
    non_members: Annotated[Path, typer.Option(help="The same of images that nobody trained on.")],
    reference: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL", help="Trained alike, but on none of these images; give 2 or more."
        ),
    ] = None,
    labels: Annotated[
        Labels, typer.Option(help="Values are class indices, or number objects; auto finds out.")
    ] = "auto",
    json: JsonFlag = False,
) -> None:
    """Attacks models: can one tell which images they learnt from? Sends no image."""
    with Client.connect() as client:
        targets = [fetch(client, name, option="MODEL") for name in models]
        given = [fetch(client, name, option=_REFERENCE) for name in reference or []]
    others = list({each.reference: each for each in given}.values())
    if 0 < len(others) < MIN_REFERENCES:
        raise InvalidArgumentError.of(
            _REFERENCE,
            f"one model alone has no spread; give at least {MIN_REFERENCES} unlike ones, or none",
        )
    _check_comparable(targets, others)
    attacked = [(each, _attacks(each, others, members, non_members, labels)) for each in targets]
    if json:
        print_json(
            [
                {
                    "model": model.reference,
                    "guarantee": model.guarantee,
                    "attacks": [_finite(asdict(attack)) for attack in attacks],
                }
                for model, attacks in attacked
            ]
        )
        return
    print_table(
        "membership inference",
        ("model", "attack", "AUC (95 %)", "TPR at 1 %", "TPR at 0.1 %", "members", "non-members"),
        [_row(model, attack) for model, attacks in attacked for attack in attacks],
    )
    say(_HOW_TO_READ)
    for model in targets:
        say(f"{model.reference}: {model.guarantee}")


def _check_comparable(targets: Sequence[LocalModel], others: Sequence[LocalModel]) -> None:
    for other in others:
        for target in targets:
            if other.reference == target.reference:
                raise InvalidArgumentError.of(
                    _REFERENCE, f"{other.reference} is audited itself; name models beside it"
                )
            if (other.pixelwise, other.classes) != (target.pixelwise, target.classes):
                raise InvalidArgumentError.of(
                    _REFERENCE,
                    f"{other.reference} has the classes {', '.join(other.classes)}, "
                    f"{target.reference} {', '.join(target.classes)}; they must be the same",
                )


def _attacks(
    model: LocalModel,
    others: Sequence[LocalModel],
    members: Path,
    non_members: Path,
    labels: Labels,
) -> list[Attack]:
    inside = find_examples(members, model, option=_MEMBERS)
    outside = find_examples(non_members, model, option=_NON_MEMBERS)
    check_disjoint(inside, outside)
    objects = number_objects((inside, outside), model, labels)
    ours = [confidences(model, group, objects=objects) for group in (inside, outside)]
    found = [loss_attack(ours[0].losses, ours[1].losses)]
    if others:
        theirs = [
            np.stack([confidences(other, group, objects=objects).logits for other in others])
            for group in (inside, outside)
        ]
        found.append(
            reference_attack(
                ours[0].logits,
                ours[1].logits,
                member_references=theirs[0],
                non_member_references=theirs[1],
            )
        )
    return found


def _row(model: LocalModel, attack: Attack) -> tuple[str, ...]:
    interval = (
        "too few images" if math.isnan(attack.low) else f"{attack.low:.3f} to {attack.high:.3f}"
    )
    return (
        model.reference,
        attack.name,
        f"{attack.auc:.3f} ({interval})",
        _rate(attack.tpr_at_1_percent),
        _rate(attack.tpr_at_0_1_percent),
        str(attack.members),
        str(attack.non_members),
    )


def _rate(value: float) -> str:
    return "too few non-members" if math.isnan(value) else f"{100 * value:.1f} %"


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no word for what is not a number."""
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value
        for key, value in values.items()
    }


app.command()(neighbours)
app.command()(purge)
