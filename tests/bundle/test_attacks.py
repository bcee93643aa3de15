"""Every exploit in attacks/ is refused, quickly, and with nothing done on the way."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from conjoin import bundle
from conjoin.errors import BundleError

ATTACKS = Path(__file__).parents[2] / "attacks"
SCRIPTS = sorted(p.stem for p in ATTACKS.glob("*.py") if p.stem not in ("good", "onnx_inside", "pickles"))


def attack(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"attack_{name}", ATTACKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ATTACKS), *sys.path])


@pytest.mark.parametrize("name", SCRIPTS)
def test_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    attack(name).build(tmp_path / "hostile")
    start = time.process_time()
    with pytest.raises(BundleError) as caught:
        bundle.load(tmp_path / "hostile")
    assert time.process_time() - start < 2
    assert len(str(caught.value)) < 600
    assert not (tmp_path / "owned").exists()


def test_the_readme_lists_every_attack() -> None:
    text = (ATTACKS / "README.md").read_text(encoding="utf-8")
    assert [n for n in SCRIPTS if f"`{n}.py`" not in text] == []


def test_the_sound_bundle_of_the_attacks_loads(tmp_path: Path) -> None:
    good = attack("good")
    good.save(tmp_path / "a")
    good.tamper(tmp_path / "a", good.nothing)
    assert bundle.load(tmp_path / "a").card.name == "small"
