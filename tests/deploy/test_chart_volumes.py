"""Volumes: what the settings name is mounted, can be written by its process, and is needed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from deploy.process_settings import processes
from deploy.render import ROOT, VARIANTS, rendered, variants
from deploy.workloads import words_of, workloads

_PATHS = re.compile(r"/(?:var|etc|tmp|run|dev)/\S+")
IMAGES = 10001
_AS_IN_A_POD = f"""
import os
import sys
from pathlib import Path
import numpy as np
from histill.adapters.audit_spool import spool_folder
from histill.core.errors import SettingsError
from histill.distill.scratch import scratch_folder
from histill.distill.teacher_cache import TeacherCache
os.setgroups([])
os.setgid({IMAGES})
os.setuid({IMAGES})
volume = sys.argv[1]
assert spool_folder(volume + "/records").stat().st_mode & 0o777 == 0o700
with scratch_folder(volume) as folder:
    (folder / "job").mkdir()
cache = TeacherCache(Path(volume) / "project" / "dataset", 1 << 20)
cache.put("ab", np.zeros((1, 2, 2), np.float16))
assert cache.get("ab", (1, 2, 2)) is not None
try:
    spool_folder(volume)
except SettingsError as exc:
    print(exc)
"""


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_path_of_the_settings_is_mounted(variant: str) -> None:
    """The root file system can not be written, and holds no secrets."""
    for workload, container, variables in processes(variant):
        mounts = [each["mountPath"] for each in container["volumeMounts"]]
        for name, value in variables.items():
            for path in _PATHS.findall(value) if value.startswith("/") else ():
                inside = [each for each in mounts if path == each or path.startswith(f"{each}/")]
                assert inside, f"{workload}: {name} is {value}, but mounted are {mounts}"


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_folder_that_must_be_the_process_own_is_none_of_the_kubelets(variant: str) -> None:
    """The root of a volume belongs to root; of a folder within it, the process is the owner."""
    seen = 0
    for workload, container, variables in processes(variant):
        if folder := variables.get("HISTILL_AUDIT__FOLDER"):
            mounts = [each["mountPath"] for each in container["volumeMounts"]]
            assert folder not in mounts, str(workload)
            assert folder.rpartition("/")[0] in mounts, str(workload)
            seen += 1
    assert seen == 3


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to make a folder as the kubelet does")
@pytest.mark.parametrize("mode", [0o2777, 0o2775], ids=["emptyDir", "claim"])
def test_folders_of_the_settings_can_be_made_in_a_volume(mode: int) -> None:
    """By the user and in the group of the images, in a folder of root that is their group's."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        volume = Path(name) / "volume"
        volume.mkdir()
        os.chown(volume, 0, IMAGES)
        volume.chmod(mode)
        done = subprocess.run(
            [sys.executable, "-c", _AS_IN_A_POD, volume],
            capture_output=True, text=True, check=False, timeout=120, cwd=ROOT,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "HISTILL_AUDIT__FOLDER" in done.stdout, "the volume itself was taken, too"


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_file_of_the_settings_is_an_item_of_its_volume(variant: str) -> None:
    """A certificate under another name would be found missing by the process, at its start."""
    for workload, container, variables in processes(variant):
        volumes = {each["name"]: each for each in workload.spec["volumes"]}
        for mount in container["volumeMounts"]:
            items = volumes.get(mount["name"], {}).get("secret", {}).get("items", ())
            files = {f"{mount['mountPath']}/{each['path']}" for each in items}
            named = {
                value for value in variables.values() if value.startswith(f"{mount['mountPath']}/")
            }
            assert not items or named <= files, f"{workload}: {named - files}"
            assert not items or named, f"{workload} mounts {mount['mountPath']} for nothing"


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_map_that_is_mounted_is_made(variant: str) -> None:
    """ConfigMaps come from the chart alone; claims from it or from the values."""
    render = rendered(variant)
    maps = {each["metadata"]["name"] for each in render.of_kind("ConfigMap")}
    claims = {each["metadata"]["name"] for each in render.of_kind("PersistentVolumeClaim")}
    named = words_of(variants()[variant])
    for workload in workloads(render.objects):
        for volume in workload.spec.get("volumes", ()):
            if "configMap" in volume:
                assert volume["configMap"]["name"] in maps, str(workload)
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims | named, str(workload)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_mount_has_its_volume_and_every_volume_a_mount(variant: str) -> None:
    """What an API server would refuse, and what nobody needs."""
    for workload in workloads(rendered(variant).objects):
        own = {
            each["metadata"]["name"]
            for each in workload.owner["spec"].get("volumeClaimTemplates", ())
        }
        volumes = {each["name"] for each in workload.spec.get("volumes", ())} | own
        mounted = {
            mount["name"]
            for container in workload.containers
            for mount in container.get("volumeMounts", ())
        }
        assert mounted == volumes, str(workload)
        for container in workload.containers:
            paths = [each["mountPath"] for each in container.get("volumeMounts", ())]
            assert len(paths) == len(set(paths)), str(workload)
