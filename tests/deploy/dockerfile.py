"""The Dockerfile's stages, as its instructions say them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache

from deploy.render import ROOT

PATH = ROOT / "deploy" / "docker" / "Dockerfile"


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        base: What it starts from, a stage before or an image.
        instructions: Each with its words, in order.
    """

    name: str
    base: str
    instructions: tuple[tuple[str, str], ...]

    def all(self, instruction: str) -> list[str]:
        return [words for name, words in self.instructions if name == instruction]

    def one(self, instruction: str) -> str:
        [words] = self.all(instruction)
        return words

    @property
    def ports(self) -> set[int]:
        return {int(port) for words in self.all("EXPOSE") for port in words.split()}

    @property
    def environment(self) -> dict[str, str]:
        found = {}
        for words in self.all("ENV"):
            found.update(dict(each.split("=", 1) for each in words.split()))
        return found

    @property
    def healthcheck(self) -> list[str]:
        """The command that asks whether it is healthy; empty: none does."""
        words = self.one("HEALTHCHECK")
        found: list[str] = [] if words == "NONE" else json.loads(words.split("CMD ", 1)[1])
        return found


@cache
def stages() -> dict[str, Stage]:
    """Every stage, by its name."""
    text = re.sub(r"^\s*#.*\n", "", PATH.read_text(), flags=re.MULTILINE)
    lines = [" ".join(line.split()) for line in text.replace("\\\n", " ").splitlines()]
    found: dict[str, Stage] = {}
    base, name, own = "", "", list[tuple[str, str]]()
    for line in (*lines, "FROM end AS end"):
        instruction, _, words = line.partition(" ")
        if instruction == "FROM":
            if name:
                found[name] = Stage(name, base, tuple(own))
            base, _, name = words.partition(" AS ")
            own = []
        elif instruction:
            own.append((instruction, words))
    return found
