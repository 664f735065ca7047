"""Submits jobs and breaks the system under them, then checks that nothing was lost.

``make chaos`` runs it by hand; a short run is among the tests. Everything that is chosen
follows from the seed; what happens between processes does not.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chaos.faults import Fault, every_fault
from chaos.system import System, running, until
from chaos.watchers import FINAL, Watcher
from histill.api.distillation.v1 import job_pb2
from histill.core import catalog
from histill.core.catalog import DATASETS, MODELS, Shelf
from histill.core.errors import HistillError, UnavailableError
from histill.core.results import result_name
from histill.core.signing import SIGNATURE
from pictures import write_dataset

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from histill.client import Client
    from histill.core.ports import ObjectStore

_STEPS = 150
_SETTLE_S = 300.0
_RECOVERY_S = 60.0


@dataclass
class Story:
    """What happened.

    Attributes:
        faults: How often each was injected.
        accepted: Names of the jobs that CreateJob answered for, by request id.
        watchers: One for each.
        recoveries: Seconds from a fault to the next start of each job that it interrupted.
        memory: Bytes of each process before and after; most were started anew in between.
    """

    faults: Counter[str] = field(default_factory=Counter)
    accepted: dict[str, str] = field(default_factory=dict)
    watchers: dict[str, Watcher] = field(default_factory=dict)
    threads: list[threading.Thread] = field(default_factory=list)
    recoveries: list[tuple[float, str]] = field(default_factory=list)
    memory: dict[str, tuple[int, int]] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    doubles: int = 0
    losses: int = 0
    orphans: int = 0
    lost_leases: int = 0


def job() -> dict[str, Any]:
    """The same job each time: all students must be equal."""
    network = {"architecture": "unet", "width": 4, "depth": 3}
    training = {"steps": _STEPS, "batch_size": 8, "crop_size": 32, "seed": 7}
    spec = {"dataset": "discs@1", "output_model": "student", "network": network}
    return {"supervised": {**spec, "training": training}}


def submit(client: Client, story: Story) -> str:
    """Submits a job until it is accepted, under one request id."""
    request_id = uuid.uuid4().hex
    deadline = time.monotonic() + _SETTLE_S
    while True:
        try:
            name = client.jobs.submit(job(), request_id=request_id).name
        except UnavailableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            story.accepted[request_id] = name
            return name


def watch(system: System, story: Story, name: str) -> None:
    """Watches a job from now on, over channels of its own."""
    watcher = Watcher(system.client(), name)
    story.watchers[name] = watcher
    story.threads.append(watcher.start())


def break_it(system: System, story: Story, faults: list[Fault], *, seed: int) -> None:
    """One job and one fault after the other, at some moment of its training."""
    chance = random.Random(seed)
    client = system.client()
    for fault in faults:
        name = submit(client, story)
        watch(system, story, name)
        _wait_for_training(story, name, chance.uniform(0, 1.5))
        moment = time.monotonic()
        running_now = [watcher for watcher in story.watchers.values() if _is_running(watcher)]
        fault.inject(system, chance)
        story.faults[fault.name] += 1
        system.heal()
        _note_recovery(story, fault, running_now, moment)
        say(f"  {sum(story.faults.values()):>3}  {fault.name}")


def _is_running(watcher: Watcher) -> bool:
    return watcher.state() == job_pb2.JOB_STATE_RUNNING


def _wait_for_training(story: Story, name: str, more_s: float) -> None:
    """Until something trains: this job, or an earlier one that is before it in the queue."""
    del name

    def trains() -> bool:
        return any(
            _is_running(watcher) and watcher.seen[-1][1].progress.step > 0
            for watcher in story.watchers.values()
            if watcher.seen
        )

    until(trains, seconds=_SETTLE_S, what="the start of a training")
    time.sleep(more_s)


def _note_recovery(story: Story, fault: Fault, running_now: list[Watcher], moment: float) -> None:
    """Waits until each job that ran has started again or ended, or goes on as if nothing was."""
    deadline = time.monotonic() + _RECOVERY_S
    for watcher in running_now:
        while not _recovered(story, fault, watcher, moment):
            if time.monotonic() > deadline:
                story.complaints.append(
                    f"{watcher.name} did not go on within {_RECOVERY_S:.0f} s of: {fault.name}"
                )
                break
            time.sleep(0.1)


def _recovered(story: Story, fault: Fault, watcher: Watcher, moment: float) -> bool:
    again = watcher.started_after(moment)
    if again is not None:
        story.recoveries.append((again, fault.name))
        return True
    if any(at > moment + 0.5 and event.progress.step for at, event in watcher.seen[-3:]):
        return True  # it was not interrupted
    return watcher.state() in FINAL


def settle(system: System, story: Story) -> None:
    """Waits until every watcher has seen its job end."""
    deadline = time.monotonic() + _SETTLE_S
    for thread in story.threads:
        thread.join(max(0.1, deadline - time.monotonic()))
    # The reaper closes what a killed worker left open.
    until(
        lambda: not system.redis().smembers("histill:jobs-unclosed"),
        seconds=60,
        what="closing of ended jobs",
    )


def judge(system: System, story: Story) -> None:
    """Holds what is there against what was promised."""
    client = system.client()
    objects = system.objects()
    listed = {each.name: each for each in client.jobs.list()}
    accepted = set(story.accepted.values())
    doubled = sorted(set(listed) - accepted)
    story.doubles += len(doubled)
    story.complaints += [f"{name} was never accepted, or was deleted" for name in doubled]
    results: dict[str, list[str]] = {}
    for model in catalog.iterate(objects, MODELS, name="student"):
        results.setdefault(model.job, []).append(model.reference)
    for name in sorted(accepted):
        _judge_job(system, story, name, listed.get(name), results.get(name, []))
        story.complaints += story.watchers[name].complaints()
    digests = {
        hashlib.sha256(objects.get(f"models/student/{version}/weights.safetensors")).hexdigest()
        for each in results.values()
        for version in (reference.rpartition("@")[2] for reference in each)
    }
    if len(digests) > 1:
        story.complaints.append(f"resumed students differ: {len(digests)} kinds of weights")
    named = {reference for name in accepted for reference in results.get(name, [])[:1]}
    orphans = sorted(orphans_of(objects, set(listed), named))
    story.orphans = len(orphans)
    story.complaints += [f"orphan object {key}" for key in orphans]
    logs = [process.log.read_text(errors="replace") for process in system.processes.values()]
    story.lost_leases = sum(log.count("lease_lost") for log in logs)
    for name in system.processes:
        before = story.memory[name][0]
        story.memory[name] = (before, system.processes[name].memory_bytes())
    story.complaints += [
        f"a traceback in {process.log.name}"
        for process, log in zip(system.processes.values(), logs, strict=True)
        if "Traceback" in log
    ]


def _judge_job(
    system: System, story: Story, name: str, found: job_pb2.Job | None, results: list[str]
) -> None:
    """One job that was accepted: it is there unless it was deleted, with the one right result."""
    if found is None:
        state, named = "SUCCEEDED", [result_name(each) for each in results[:1]]
        story.states["DELETED" if name in system.deleted else "LOST"] += 1
        if name not in system.deleted:
            story.losses += 1
            story.complaints.append(f"{name} is lost")
    else:
        state = job_pb2.JobState.Name(found.state).removeprefix("JOB_STATE_")
        named = [found.result_model]
        story.states[state] += 1
        if name in system.deleted:
            story.complaints.append(f"{name} was deleted, and is there")
    if state == "CANCELLED" and name in system.cancelled:
        named = []
    elif state != "SUCCEEDED":
        story.losses += 1
        story.complaints.append(f"{name} is {state}: {found.error.message if found else ''}")
        return
    made = [result_name(each) for each in results]
    if made != named or len(made) != (state == "SUCCEEDED"):
        story.doubles += 1
        story.complaints.append(f"{name} is {state}, names {named}, and has the results {results}")


def orphans_of(objects: ObjectStore, jobs: set[str], named: set[str]) -> Iterator[str]:
    """Objects that belong to nothing, or to something that has ended.

    Args:
        objects: All of them.
        jobs: Names of the jobs that are listed.
        named: References of the models that are the result of one job each.
    """
    whole = set(_files_of(objects, DATASETS)) | set(_files_of(objects, MODELS))
    for key in objects.list(""):
        match key.split("/"):
            case ["jobs", job_id, "job.json" | "report.html"] if f"jobs/{job_id}" in jobs:
                continue
            case ["jobs", job_id, "events", _] if f"jobs/{job_id}" in jobs:
                continue
            case ["models", name, version, _] if f"{name}@{version}" in named and key in whole:
                continue
            case ["datasets", *_] if key in whole:
                continue
            case ["audit" | "access", *_]:
                continue
            case _:
                yield key


def _files_of(objects: ObjectStore, shelf: Shelf[Any]) -> Iterator[str]:
    """Keys of what the manifests of a shelf name, and of the manifests themselves."""
    for manifest in catalog.iterate(objects, shelf):
        prefix = shelf.prefix(manifest.name, manifest.version)
        for path in ("manifest.json", SIGNATURE, *(file.path for file in manifest.files)):
            yield prefix + path


def say(text: str) -> None:
    """Prints one line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def tell(story: Story, *, seconds: float) -> None:
    """Prints what happened."""
    times = sorted(seconds for seconds, _ in story.recoveries)
    say(f"\n{sum(story.faults.values())} faults of {len(story.faults)} kinds in {seconds:.0f} s")
    say(f"{len(story.accepted)} jobs accepted: {dict(story.states)}")
    say(f"losses {story.losses}   doubles {story.doubles}   orphan objects {story.orphans}")
    say(f"leases lost and told so: {story.lost_leases}")
    if times:
        worst = max(story.recoveries)
        say(
            f"interrupted and started again: {len(times)}; median {statistics.median(times):.1f} s,"
            f" worst {worst[0]:.1f} s ({worst[1]})"
        )
    for name, (before, after) in story.memory.items():
        say(f"memory of {name}: {before / 1e6:.0f} MB at first, {after / 1e6:.0f} MB at the end")
    for complaint in story.complaints:
        say(f"WRONG: {complaint}")
    say("nothing was lost" if not story.complaints else f"{len(story.complaints)} complaints")


def run(folder: Path, *, seed: int, rounds: int, kinds: int = 0) -> Story:
    """Breaks a fresh system in a folder, and judges it.

    Args:
        folder: For everything that it stores.
        seed: Of the order of faults and their moments.
        rounds: How often each kind of fault is injected.
        kinds: Only the first so many kinds; 0: all.
    """
    story = Story()
    discs = write_dataset(folder / "discs")
    faults = every_fault(discs)[: kinds or None]
    order = faults * rounds
    random.Random(seed).shuffle(order)
    start = time.monotonic()
    with running(folder / "system") as system:
        system.client().datasets.push(discs, name="discs")
        # One that nobody disturbs, to hold the others against.
        quiet = submit(system.client(), story)
        watch(system, story, quiet)
        story.threads[0].join(_SETTLE_S)
        story.memory = {
            name: (process.memory_bytes(), 0) for name, process in system.processes.items()
        }
        try:
            break_it(system, story, order, seed=seed)
            system.heal()
            settle(system, story)
            judge(system, story)
        except (TimeoutError, HistillError) as exc:
            story.complaints.append(f"{type(exc).__name__}: {exc}")
    tell(story, seconds=time.monotonic() - start)
    return story


def main() -> int:
    """The command line; the exit code is 1 when anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1, help="of every kind of fault")
    parser.add_argument("--kinds", type=int, default=0, help="only the first so many kinds")
    parser.add_argument("--keep", type=Path, help="folder to leave everything in")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="histill-chaos-") as folder:
        root = arguments.keep or Path(folder)
        (root / "system").mkdir(parents=True, exist_ok=True)
        story = run(root, seed=arguments.seed, rounds=arguments.rounds, kinds=arguments.kinds)
    return 1 if story.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
