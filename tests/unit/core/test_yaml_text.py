"""YAML that looks smaller than it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from histill.cli.files import load_yaml
from histill.core import messages, yaml_text
from histill.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from pathlib import Path

LEVELS = "bcdefghijkl"
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("a" + LEVELS, LEVELS, strict=False)
)


def test_aliases_stand_for_what_they_name() -> None:
    """Anchors and merges are read as everywhere."""
    read = yaml_text.load("base: &b {x: 1, y: [2]}\nmore: {<<: *b, x: 3}\nagain: *b\n")
    assert read == {
        "base": {"x": 1, "y": [2]},
        "more": {"x": 3, "y": [2]},
        "again": {"x": 1, "y": [2]},
    }
    assert yaml_text.load("") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LAUGHS, "stand for more than 100000 values"),
        ("a: &a [*a]", "stands for itself"),
        ("[" * 5000, "nested too deeply"),
        ("a: " + "x" * yaml_text.MAX_CHARACTERS, "are the most"),
        ("a: [", "while parsing"),
        ("? [a]\n: b", "unhashable|found unhashable"),
        ("2001-99-99", "month must be"),
        ("!!python/object/apply:os.system [ls]", "could not determine a constructor"),
    ],
    ids=["laughs", "itself", "deep", "long", "damaged", "key", "date", "program"],
)
def test_what_is_no_plain_document_is_refused(text: str, words: str) -> None:
    """One kind of error, with words, before anything of the size that it stands for is made."""
    with pytest.raises(ValueError, match=words):
        yaml_text.load(text)


def test_a_job_file_of_a_billion_laughs_is_a_wrong_argument(tmp_path: Path) -> None:
    """The command that reads it names the file; nothing is unfolded."""
    path = tmp_path / "job.yaml"
    path.write_text(LAUGHS + "supervised: {dataset: *l}\n")
    with pytest.raises(InvalidArgumentError, match=r"job\.yaml.*aliases stand for"):
        load_yaml(path)


def test_words_about_a_field_stay_short() -> None:
    """A value whose parts are shared is not unfolded to tell that it is wrong."""
    value: list[object] = ["x"] * 10
    for _ in range(12):
        value = [value] * 10
    for job in ({"supervised": value}, {"supervised": {"dataset": value}}):
        with pytest.raises(InvalidArgumentError) as caught:
            messages.job_from_yaml(job)
        assert len(str(caught.value)) < 2000
