"""SCTK's demo of ROVER byte for byte, its program on random input where it is built, and crowd-kit's tests.

Versions: usnistgov/SCTK at 9688a26882a688132a5e414cadcb4c19b6fffaba (2023-11-27); Toloka/crowd-kit at
35f06615e6dcf3819cc1d1958ad940f0752a29cf. The program is looked for in SCTK's bin (its `make all install`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conjoin.formats.ctm import FORMAT
from conjoin.fusion.texts import rover
from conjoin.scores.words import SCORES

HERE = Path(__file__).parent
PEERS = Path(os.environ.get("CONJOIN_PEERS", HERE.parent / "work"))
SCTK = PEERS / "SCTK"
DEMO, PROGRAM = SCTK / "doc", SCTK / "bin" / "rover"
CROWD_KIT = PEERS / "crowd-kit" / "tests"
CLONE = f"git clone https://github.com/Toloka/crowd-kit {CROWD_KIT.parent}"
NAMES = ("sys1", "sys2", "sys3")
GET = "git clone https://github.com/usnistgov/SCTK"


@pytest.mark.skipif(not DEMO.is_dir(), reason=f"no {DEMO}: {GET} {SCTK}, or set CONJOIN_PEERS")
def test_the_demo_byte_for_byte(tmp_path):
    inputs = DEMO / "images_src"
    found = FORMAT.read({n: inputs / f"{n}.ctm" for n in NAMES}, None)
    fused = rover(found.outputs, method="avgconf", order=NAMES, lacking="silent")
    FORMAT.write(fused, found, tmp_path / "rover.ctm")
    published = DEMO / "rover_demo" / "rover.ctm"
    assert (tmp_path / "rover.ctm").read_bytes() == published.read_bytes()
    files = {**{n: inputs / f"{n}.ctm" for n in NAMES}, "rover": published}
    scored = FORMAT.read(files, inputs / "ref.stm")
    rates = [100 * SCORES["sclite_wer"].value(scored.outputs[n], scored.truth) for n in files]
    assert [round(r, 1) for r in rates] == [6.5, 3.9, 33.3, 3.9]  # the Average line of Report.sys


def recognisers(folder, rng, systems):
    """CTM files of some recognisers of one recording; with confidences in all of them or in none."""
    words, sure = list("abcd")[: int(rng.integers(2, 5))], rng.random() < 0.8
    for m in range(systems):
        lines, at = [], round(float(rng.random()) * 0.5, 2)
        for _ in range(int(rng.integers(1, 10))):
            length = round(float(rng.uniform(0.05, 0.5)), 2)
            told = f" {rng.random():.4f}" if sure else ""
            lines.append(f"u 1 {at:.2f} {length:.2f} {rng.choice(words)}{told}\n")
            at = round(at + length + float(rng.choice([0, 0, 0, 0.1, 1.3])), 2)
        (folder / f"s{m}.ctm").write_text("".join(lines))
    return [folder / f"s{m}.ctm" for m in range(systems)], sure


@pytest.mark.skipif(not PROGRAM.is_file(), reason=f"no {PROGRAM}: {GET} {SCTK}, then make config all install")
def test_the_program_answers_the_same(tmp_path):
    rng = np.random.default_rng(0)
    compared = 0
    for _ in range(60):
        files, sure = recognisers(tmp_path, rng, int(rng.integers(2, 6)))
        found = FORMAT.read({p.stem: p for p in files}, None)
        for method in ("avgconf", "meth1", "maxconf", "oracle"):
            alpha, null = float(rng.choice([1.0, 0.7, 0.3])), float(rng.choice([0.0, 0.2, 0.6]))
            timed = bool(rng.integers(2))
            command = [
                str(PROGRAM),
                *(w for p in files for w in ("-h", str(p), "ctm")),
                "-o",
                str(tmp_path / "out"),
            ]
            command += [
                "-m",
                method,
                "-a",
                str(alpha),
                "-c",
                str(null),
                "-f",
                "0",
                *(["-T"] if timed else []),
            ]
            done = subprocess.run(command, capture_output=True, check=False)
            if done.returncode or (method == "avgconf" and alpha < 1 and not sure):
                continue  # it stops on sums of confidences that are 0; without confidences they are below 0
            fused = rover(
                found.outputs,
                method=method,
                alpha=alpha,
                null_confidence=null,
                time_align=timed,
                order=[p.stem for p in files],
            )
            FORMAT.write(fused, found, tmp_path / "mine")
            assert (tmp_path / "mine").read_text() == (tmp_path / "out").read_text(), command
            compared += 1
    assert compared > 150


@pytest.mark.skipif(
    not CROWD_KIT.is_dir(),
    reason=f"no {CROWD_KIT}: {CLONE}, or set CONJOIN_PEERS",
)
def test_crowd_kits_tests_pass(tmp_path):
    """The third aligns five texts at unit costs, where SCTK's are 4, 3 and 3: a tie of one word differs."""
    pytest.importorskip("pandas")
    shutil.copytree(CROWD_KIT, tmp_path / "tests")
    command = [sys.executable, "-m", "pytest", "-q", "-rf", "--tb=no", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "tests/aggregation/test_rover_aggregation.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(HERE / "shim"), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "1 failed, 2 passed" in done.stdout, done.stdout[-3000:]
    assert "test_rover_simple_text" in done.stdout
