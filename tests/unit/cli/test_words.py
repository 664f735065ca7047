"""What commands print of names that others chose."""

from __future__ import annotations

from pathlib import Path

import pytest

from histill.api.distillation.v1 import job_pb2
from histill.api.registry.v1 import model_pb2
from histill.cli.files import load_yaml
from histill.cli.jobs import reference_of
from histill.cli.output import complain, print_table, say
from histill.cli.segment import _targets
from histill.core.errors import InvalidArgumentError
from histill.core.json_form import as_dict


def test_brackets_in_names_are_only_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    """A job called tumour [/foo] breaks no listing and loses no letter."""
    print_table("jobs", ("job", "about"), [("jobs/1", "tumour [/foo] [red]study")])
    say("tile[red]1.png")
    complain("jobs/a[b]c")
    captured = capsys.readouterr()
    assert "tumour [/foo] [red]study" in captured.out
    assert "tile[red]1.png" in captured.out
    assert "jobs/a[b]c" in captured.err


def test_results_that_would_overwrite_each_other_are_refused() -> None:
    """Equal names from two folders, or of two formats, are named together."""
    for images in ([Path("a/1.png"), Path("b/1.png")], [Path("t.png"), Path("t.jpg")]):
        with pytest.raises(InvalidArgumentError, match="would both write"):
            _targets(images, Path("out"))


def test_only_known_endings_are_cut_off() -> None:
    """The last number of a DICOM file's name is part of it."""
    images = [Path("1.2.3.4"), Path("1.2.3.5"), Path("x.dcm")]
    assert list(_targets(images, Path()).values()) == ["1.2.3.4", "1.2.3.5", "x"]


def test_json_holds_numbers_as_numbers_and_zeros_too() -> None:
    """64-bit integers are no strings, and nothing is left out because it is zero."""
    found = as_dict(model_pb2.Model(parameters=163160))
    assert (found["parameters"], found["size_bytes"]) == (163160, 0)
    assert as_dict(job_pb2.Job())["attempt"] == 0


def test_a_result_is_shown_as_commands_take_it() -> None:
    """models/x/versions/1 is x@1."""
    assert reference_of("models/x/versions/1") == "x@1"
    assert reference_of("") == ""


def test_a_file_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    """Broken YAML and anything but a mapping are wrong usage, with the file's name."""
    path = tmp_path / "m.yaml"
    for text in ("a: [", "- 1"):
        path.write_text(text)
        with pytest.raises(InvalidArgumentError, match=r"m\.yaml"):
            load_yaml(path)
