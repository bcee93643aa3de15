"""The documents tell the truth: files they name exist, commands are the program's, layers are the code's."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/format/*.md")])
OURS = {"src", "docs", "tests", "benchmarks", "examples", "attacks", ".ci"}
MADE = ("docs/reference/", "demo/", "dist/")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    named = re.findall(r"`((?:[\w.-]+/)+[\w.-]*)`", page.read_text(encoding="utf-8"))
    own = [
        n
        for n in named
        if n.split("/")[0] in {"src", "docs", "tests", "benchmarks", "examples", "attacks", ".ci"}
    ]
    missing = [n for n in own if not n.startswith(MADE) and not (ROOT / n).exists()]
    assert not missing


def test_readme_shows_the_two_commands_on_its_first_screen() -> None:
    first = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:24]
    assert any(line.startswith("make demo") for line in first)
    assert any(line.startswith("make test") for line in first)


VERBS = (
    *("fit", "evaluate", "predict", "info", "fuse", "score", "merge", "transplant", "distil", "finetune"),
    "export",
)


@pytest.mark.parametrize("verb", VERBS)
def test_options_that_pages_show_are_options_of_the_command(verb: str) -> None:
    command = [sys.executable, "-m", "conjoin", verb, "--help"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={"COLUMNS": "200"}, timeout=60
    )
    shown = set()
    for page in PAGES:
        for line in re.findall(
            rf"^(?:\$ )?conjoin {verb} (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE
        ):
            shown |= set(re.findall(r"(?<!\w)--[a-z-]+", line.partition("#")[0]))
    assert not {option for option in shown if option not in done.stdout}


def test_architecture_names_every_layer_and_every_room() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    rooms = {name.strip() for line in layers for name in line.split("|")}
    assert not {room for room in rooms if not re.search(rf"\b{room}\b", text)}
    there = {
        p.stem
        for p in (ROOT / "src" / "conjoin").iterdir()
        if not p.name.startswith("_") and p.suffix in ("", ".py")
    }
    assert rooms == there


def test_the_page_of_fusion_names_every_operator() -> None:
    from conjoin.fusion import FIT_FUSERS, FUSERS, series
    from conjoin.fusion.kinds import FAMILIES, family

    text = (ROOT / "docs" / "fusion.md").read_text(encoding="utf-8")
    tables = [(FUSERS, FIT_FUSERS), (series.FUSERS, series.FIT_FUSERS)]
    tables += [(f.FUSERS, f.FIT_FUSERS) for f in map(family, FAMILIES)]
    names = {name for plain, fits in tables for name in (*plain, *fits)}
    assert not {name for name in names if f"`{name}`" not in text and f"*{name}*" not in text}
    for kind in FAMILIES:
        assert f"| {kind} |" in text
        assert family(kind).TRUSTED in text


def test_the_page_of_transfer_names_every_method_and_student() -> None:
    from conjoin.transfer.distil import AUGMENTERS, STUDENTS
    from conjoin.transfer.distil.losses import FEATURE_LOSSES, LOGIT_LOSSES
    from conjoin.transfer.weights import METHODS, NEEDING

    text = (ROOT / "docs" / "transfer.md").read_text(encoding="utf-8")
    names = (
        *METHODS,
        *NEEDING,
        *STUDENTS,
        *LOGIT_LOSSES,
        *FEATURE_LOSSES,
        *(a for a in AUGMENTERS if a != "none"),
    )
    assert not {name for name in names if f"`{name}`" not in text}
