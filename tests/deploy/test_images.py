"""The images, as far as can be told without building them; make images-check does that."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

from deploy.dockerfile import PATH, stages
from deploy.process_settings import SETTINGS, ports
from deploy.render import ROOT
from histill.core.settings import variable_names

MODULES = {"worker": "histill.distill"}
PROCESSES = sorted(SETTINGS)
TARGETS = [*PROCESSES, "cli"]
BIN = Path(sys.executable).parent


def script(words: str) -> Any:
    """What a Python program prints as JSON that may import the scripts of the build."""
    code = f"import json, sys; sys.path[:0] = ['scripts', 'deploy/docker']; {words}"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def test_hadolint_finds_nothing() -> None:
    """The linter of Dockerfiles, with all its rules."""
    hadolint = BIN / "hadolint"
    if not hadolint.exists():
        pytest.skip("hadolint is not installed; make .venv/.dev installs it")
    assert "hadolint" not in PATH.read_text(), "a rule is switched off; say why here"
    done = subprocess.run([hadolint, PATH], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_every_process_has_a_target_and_the_lists_agree() -> None:
    """Targets of the Dockerfile, of the bills of materials and of the processes are the same."""
    final = {name for name, stage in stages().items() if stage.base == "runtime"}
    assert final == set(TARGETS)
    assert set(script("import packages; print(json.dumps(list(packages.TARGETS)))")) == final


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_its_process_as_nobody_in_particular(target: str) -> None:
    """A numbered user, which Kubernetes can check, and a process that gets SIGTERM itself."""
    stage = stages()[target]
    assert stage.one("USER") == "10001:10001"
    expected = ["python", "-m", MODULES.get(target, f"histill.{target}")]
    assert json.loads(stage.one("ENTRYPOINT")) == (["histill"] if target == "cli" else expected)
    assert stages()["runtime"].one("STOPSIGNAL") == "SIGTERM"
    assert stage.all("RUN") == []


@pytest.mark.parametrize("target", TARGETS)
def test_what_changes_often_is_copied_last(target: str) -> None:
    """Packages first, then our code, from stages that hold nothing else of the build."""
    copies = [words for words in stages()[target].all("COPY") if words.startswith("--from=")]
    assert copies == stages()[target].all("COPY")
    assert copies == [
        f"--from={target}-packages /opt/histill /opt/histill",
        "--from=code /code /",
    ]
    [install] = stages()[f"{target}-packages"].all("RUN")
    assert f"/build/scripts/install.py {target}" in install


@pytest.mark.parametrize("process", PROCESSES)
def test_exposed_ports_are_the_processs_own(process: str) -> None:
    """All on which it listens when no setting names another, and no other."""
    assert stages()[process].ports == set(ports(process, SETTINGS[process]()).values())


@pytest.mark.parametrize("process", PROCESSES)
def test_health_is_asked_for_where_it_is_told(process: str) -> None:
    """The port of readiness, and the variable that moves it."""
    asked = stages()[process].healthcheck
    assert asked[:2] == ["python", "/opt/histill/bin/healthcheck.py"]
    kind, variable, port = asked[2:5]
    own = ports(process, SETTINGS[process]())
    assert int(port) == own["http" if kind == "http" else "health"]
    assert variable in variable_names(SETTINGS[process])
    assert stages()["cli"].healthcheck == []


@pytest.mark.parametrize("process", PROCESSES)
def test_settings_of_an_image_are_the_processs_own(process: str) -> None:
    """Each folder that they name is there, and the user's."""
    [making] = stages()["runtime"].all("RUN")
    made = making.partition("install -d -o 10001 -g 10001")[2].split()
    environment = stages()[process].environment
    assert environment
    for variable, value in environment.items():
        assert variable in variable_names(SETTINGS[process])
        # Records go into a folder within the volume, which the process makes for itself alone.
        folder = value.removesuffix("/records") if variable == "HISTILL_AUDIT__FOLDER" else value
        assert folder in made or value == "0.0.0.0"  # noqa: S104 - the page's, in its own network


def test_only_what_is_built_from_reaches_the_builder() -> None:
    """No history, environment, test, data set or secret, whatever else comes to lie here."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {
        path
        for stage in stages().values()
        for words in stage.all("COPY")
        if not words.startswith("--from=")
        for path in words.split()[:-1]
    }
    assert all((ROOT / path).exists() for path in copied)
    for path in copied:
        assert any(path == each or path.startswith(f"{each}/") for each in let_in), path
    for each in let_in:
        assert any(path == each or path.startswith(f"{each}/") for path in copied), each
    shut_out = [rule.removeprefix("**/") for rule in rules[1:] if not rule.startswith("!")]
    for name in (".env", "__pycache__", "module.pyc"):
        assert any(fnmatch(name, rule) for rule in shut_out), name


def test_builders_packages_are_known_to_the_byte() -> None:
    """As those of the processes: one version each, hashes, no index."""
    text = (ROOT / "deploy" / "docker" / "build.lock").read_text()
    blocks = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    assert len(blocks) >= 3
    assert all(re.match(r"[\w.-]+==[\w.]+ +--hash=sha256:[0-9a-f]{64}", each) for each in blocks)
    assert "://" not in text
    asked = (ROOT / "deploy" / "docker" / "build.in").read_text().split()
    assert set(asked) <= {each.split("==")[0] for each in blocks}
    build_system = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]
    assert set(build_system["requires"]) <= set(asked)


@pytest.mark.parametrize("target", TARGETS)
def test_rounds_end_with_all_that_a_process_needs(target: str) -> None:
    """Installing what is asked for, round by round, ends where the bill of materials does."""
    rounds, wrong = script(f"""
from importlib.metadata import distribution
import install, packages
requires = lambda name: distribution(name).requires or []
asked = list(packages.own_requirements(packages.read_project(), packages.TARGETS[{target!r}]))
there, rounds = {{"torch": distribution("torch")}}, 0  # it comes first
while names := install.missing({target!r}, there):
    there |= {{name: distribution(name) for name in names}}
    rounds += 1
locked = lambda names: {{name for name in names if not install.UNLOCKED.fullmatch(name)}}
print(json.dumps([rounds, sorted(locked(packages.closure(asked, requires)) ^ locked(there))]))
""")
    assert rounds > 1
    assert wrong == []


def test_a_package_that_the_lock_lacks_stops_the_build() -> None:
    """It is named, and nothing is installed."""
    code = "import install; install.install({'left-pad'}, {}, sys.executable)"
    with pytest.raises(subprocess.CalledProcessError) as failed:
        script(code)
    assert "not in requirements.lock: left-pad" in failed.value.stderr


def test_what_is_trimmed_is_there_to_be_trimmed() -> None:
    """A pattern that matches no installed file any more would leave what it was made to take."""
    unused, codecs = script("import trim; print(json.dumps([trim.UNUSED, trim.CODECS]))")
    found = {name: str(distribution(name).locate_file("")) for name in ("openvino", "torch")}
    site = Path(found["openvino"])
    missing = [each for each in unused if not list(site.glob(each))]
    missing += [each for each in codecs if not list(site.glob(f"imagecodecs/_{each}.*so"))]
    assert missing == []


def test_trimming_leaves_libraries_that_somebody_needs(tmp_path: Path) -> None:
    """Tests and headers go, a codec takes the library that only it names, others keep theirs."""
    kept = {
        "numpy/linalg.py": "",
        "numpy/testing/__init__.py": "",
        "imagecodecs/_tiff.abi3.so": "needs libtiff-1.so",
        "imagecodecs.libs/libtiff-1.so": "needs libzstd-1.so",
        "imagecodecs.libs/libzstd-1.so": "",
    }
    gone = {
        "numpy/tests/test_linalg.py": "",
        "numpy/core/numpy.h": "",
        "imagecodecs/_avif.abi3.so": "needs libavif-1.so and libzstd-1.so",
        "imagecodecs.libs/libavif-1.so": "needs libaom-1.so",
        "imagecodecs.libs/libaom-1.so": "I am libaom-1.so",
        "openvino/libs/libopenvino_intel_gpu_plugin.so": "",
    }
    for name, text in (kept | gone).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    freed = script(f"import pathlib, trim; print(trim.trim(pathlib.Path({str(tmp_path)!r})))")
    assert freed == sum(map(len, gone.values()))
    left = {str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*") if each.is_file()}
    assert left == set(kept)


def test_images_says_what_it_lacks(tmp_path: Path) -> None:
    """Without its tools it names them, instead of failing half way; without root it says that."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in {"dirname": 'exec /usr/bin/dirname "$@"', "id": "echo 0"}.items():
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    command = ["/bin/bash", "scripts/images", "check"]

    def said(number: int) -> str:
        (tools / "id").write_text(f"#!/bin/sh\necho {number}\n")
        done = subprocess.run(
            command, cwd=ROOT, env={"PATH": str(tools)}, check=False, capture_output=True, text=True
        )
        assert done.returncode == 1
        return done.stderr

    assert "missing: buildah podman runc debootstrap" in said(0)
    assert "needs root" in said(1000)
