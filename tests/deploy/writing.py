"""Writes what is made from the chart; ``scripts/chart`` says how it is called."""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from deploy.readme import README, readme
from deploy.render import CHART, VARIANTS, Render, rendered

if TYPE_CHECKING:
    from deploy.render import Object

HERE = Path(__file__).parent
GOLDEN = HERE / "golden"
RELEASED = HERE / "released"
# Rules and dashboards are copied from files beside the templates, where they are reviewed.
_LONGEST = 2000


def golden_text(render: Render) -> str:
    """A render as it is kept: long data of ConfigMaps is told by its digest."""
    return "".join(
        f"---\n# {source}\n{_yaml(_shortened(item))}"
        for source, item in zip(render.sources, render.objects, strict=True)
    )


def _yaml(item: Object) -> str:
    return yaml.dump(item, Dumper=yaml.CSafeDumper, sort_keys=False, width=100)


def _shortened(item: Object) -> Object:
    if item["kind"] != "ConfigMap":
        return item
    return item | {"data": {key: _told(text) for key, text in item.get("data", {}).items()}}


def _told(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    return f"{len(text)} characters, sha256 {hashlib.sha256(text.encode()).hexdigest()}"


def write_golden() -> None:
    """Takes the present renders as those that reviewers have seen."""
    shutil.rmtree(GOLDEN, ignore_errors=True)
    GOLDEN.mkdir()
    for variant in VARIANTS:
        (GOLDEN / f"{variant}.yaml").write_text(golden_text(rendered(variant)))


def write_readme() -> None:
    """Writes the chart's README."""
    (CHART / README).write_text(readme())


def write_release(kept: Path = RELEASED) -> None:
    """Keeps the renders of this version, from which later ones must be able to upgrade.

    Args:
        kept: Holds a folder a version.

    Raises:
        SystemExit: The version is kept already.
    """
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    folder = kept / version
    if folder.exists():
        sys.exit(f"{version} is released, and does not change; give Chart.yaml a new version")
    folder.mkdir(parents=True)
    for variant in VARIANTS:
        (folder / f"{variant}.yaml").write_text(golden_text(rendered(variant)))


def main(words: list[str]) -> None:
    """Does what each word says, in their order.

    Raises:
        SystemExit: A word is unknown, or there is none.
    """
    does = {"golden": write_golden, "readme": write_readme, "release": write_release}
    if not words or not does.keys() >= set(words):
        sys.exit(f"say one of {', '.join(does)}")
    for word in words:
        does[word]()


if __name__ == "__main__":
    main(sys.argv[1:])
