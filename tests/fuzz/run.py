"""Fuzzes one reader: ``python tests/fuzz/run.py NAME [--seconds N] [--runs N] [--found FOLDER]``.

An input with which it fails is written to the folder of findings, and the exit status is not 0.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import atheris

# Where libFuzzer ends an input: far above what any input of its size may take.
_INPUT_S, _MEMORY_MB, _LONGEST = 20, 3000, 1 << 16


def main() -> None:
    """Runs libFuzzer, which ends the process."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    with atheris.instrument_imports(include=["histill"], enable_loader_override=False):
        from harnesses import HARNESSES

    from histill.ml.quiet import quiet_decoders

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(HARNESSES))
    parser.add_argument("--seconds", type=int, default=0)
    parser.add_argument("--runs", type=int, default=-1)
    parser.add_argument("--found", type=Path, default=Path("build/fuzz"))
    chosen = parser.parse_args()
    harness = HARNESSES[chosen.name]
    quiet_decoders()
    folder = chosen.found / chosen.name
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(harness.seeds()):
            (Path(corpus) / f"seed-{number}").write_bytes(seed)
        arguments = [
            sys.argv[0],
            "-seed=1",
            f"-runs={chosen.runs}",
            f"-max_total_time={chosen.seconds}",
            f"-timeout={_INPUT_S}",
            f"-rss_limit_mb={_MEMORY_MB}",
            f"-max_len={_LONGEST}",
            f"-artifact_prefix={folder}/",
            "-print_final_stats=1",
            corpus,
        ]
        atheris.Setup(arguments, harness.read)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
