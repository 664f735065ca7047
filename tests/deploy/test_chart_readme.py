"""What is written from the chart, by the command that writes it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from deploy.readme import README, readme
from deploy.render import CHART, ROOT, VARIANTS, variant_files
from deploy.values_file import documented_values
from deploy.writing import write_release

if TYPE_CHECKING:
    from pathlib import Path


def test_the_readme_is_that_of_the_chart() -> None:
    """Written again it would be the same, byte for byte."""
    assert (CHART / README).read_text() == readme(), "make chart refreshes it"


def test_the_readme_tells_every_value_and_every_example() -> None:
    """Each value has its row with its default; each file of ci/ is named with what it shows."""
    lines = readme().splitlines()
    values = documented_values((CHART / "values.yaml").read_text())
    rows = [line for line in lines[lines.index("## Values") :] if line.startswith("| `")]
    assert len(rows) == len(values)
    for value in values:
        row = next(row for row in rows if row.startswith(f"| `{'.'.join(value.path)}` |"))
        assert value.default.replace("|", "\\|") in row
        assert row.replace("\\|", "").count("|") == 5, row
    for path in variant_files().values():
        row = next(line for line in lines if path.name in line)
        assert len(row) > 60, f"{path.name} does not say what it shows"


def test_the_chart_and_its_images_have_the_version_of_the_project() -> None:
    """AppVersion is the tag of the images, so it is that of the package in them."""
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = (ROOT / "pyproject.toml").read_text()
    assert f'\nversion = "{about["appVersion"]}"\n' in project


def test_a_released_version_is_not_written_again(tmp_path: Path) -> None:
    """What was released does not change: the next one needs a number of its own."""
    write_release(tmp_path)
    assert {path.stem for path in tmp_path.glob("*/*.yaml")} == set(VARIANTS)
    with pytest.raises(SystemExit, match="is released, and does not change"):
        write_release(tmp_path)


@pytest.mark.parametrize("words", [[], ["rendr"], ["readme", "rendr"]])
def test_the_command_says_what_it_can_do(words: list[str]) -> None:
    """A word that it does not know stops it before it writes anything."""
    done = subprocess.run(
        ["scripts/chart", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode in {1, 2}
    assert all(word in done.stdout + done.stderr for word in ("golden", "readme", "release"))
