"""One virtual environment per group of systems, made once and used again while its pins stay the same."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from pathlib import Path

from .tables import REPOSITORY

HERE = Path(__file__).resolve().parent
WORK = HERE / "work"
OWN_EXTRAS = "train,catboost"


class EnvironmentFailedError(RuntimeError):
    """An environment could not be made; the message ends with what pip said."""


def python_of(name: str, say: Callable[[str], None] = print) -> Path:
    """Return the interpreter of the environment, made first when it is absent, unfinished or out of date."""
    folder = WORK / "envs" / name
    interpreter = folder / "bin" / "python"
    marker = folder / "made-of"
    wanted = fingerprint(name)
    if marker.is_file() and marker.read_text() == wanted and interpreter.exists():
        return interpreter
    say(f"making the environment {name!r}")
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    for step in _install_steps(name):
        _pip(interpreter, step)
    marker.write_text(wanted)
    return interpreter


def _install_steps(name: str) -> list[list[str]]:
    steps = [["-r", str(_pins(name))]]
    if name == "conjoin":
        constraints = ["-c", str(REPOSITORY / "constraints.txt")]
        steps.append([*constraints, "-e", f"{REPOSITORY}[{OWN_EXTRAS}]"])
    return steps


def _pins(name: str) -> Path:
    return HERE / "environments" / f"{name}.txt"


def fingerprint(name: str) -> str:
    """Digest of everything that decides what is installed; conjoin's own source is read where it lies."""
    digest = hashlib.sha256(f"{sys.version_info[:2]}".encode())
    files = [_pins(name)]
    if name == "conjoin":
        digest.update(OWN_EXTRAS.encode())
        files += [REPOSITORY / "pyproject.toml", REPOSITORY / "constraints.txt"]
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _pip(interpreter: Path, arguments: Sequence[str]) -> None:
    command = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EnvironmentFailedError(f"{' '.join(command[3:])} failed:\n{done.stderr[-2000:]}")
