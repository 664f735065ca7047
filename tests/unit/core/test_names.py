"""Names and references."""

from __future__ import annotations

import pytest

from histill.core.errors import InvalidArgumentError
from histill.core.names import Reference, check_alias, check_name, new_job_id, parse_job_name
from histill.core.names import parse_reference as parse


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("nuclei", Reference("nuclei")),
        ("nuclei@3", Reference("nuclei", version=3)),
        ("nuclei-2@production", Reference("nuclei-2", alias="production")),
    ],
)
def test_references_parse_and_print_back(text: str, reference: Reference) -> None:
    """Each form is understood, and written as it was read."""
    assert parse(text, field="f") == reference
    assert str(reference) == text


@pytest.mark.parametrize(
    "text", ["", "A", "a b", "a@", "@1", "a@0", "a@01", "a@B", "../x", "a@1@2"]
)
def test_what_is_no_reference_is_refused_with_its_field(text: str) -> None:
    """Anything else names the field it came from."""
    with pytest.raises(InvalidArgumentError) as caught:
        parse(text, field="job.dataset")
    assert caught.value.violations[0].field == "job.dataset"


def test_an_alias_is_refused_where_none_can_be() -> None:
    """Datasets and deletions take versions only."""
    with pytest.raises(InvalidArgumentError, match="give a version number"):
        parse("a@production", field="f", aliases=False)


def test_names_and_aliases_are_bounded() -> None:
    """A name has 63 characters at most, an alias starts with a letter."""
    assert check_name("a" * 63, field="f")
    for wrong in ("a" * 64, "-a", "a_b"):
        with pytest.raises(InvalidArgumentError):
            check_name(wrong, field="f")
    with pytest.raises(InvalidArgumentError):
        check_alias("1a", field="f")


def test_a_job_name_holds_its_id() -> None:
    """A fresh id makes a valid name; anything else is refused."""
    made = new_job_id()
    assert parse_job_name(f"jobs/{made}", field="name") == made
    with pytest.raises(InvalidArgumentError):
        parse_job_name("jobs/../models", field="name")
