"""What is saved is what is loaded, byte for byte and answer for answer."""

from __future__ import annotations

import ast
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import numpy as np
import pytest

from conjoin import bundle
from conjoin.bundle import parts

ROOT = Path(__file__).parents[2]
BATCH: dict[str, Any] = {
    "age": np.array([20.0, 55.5, 41.0]),
    "job": np.array(["job 3", None, "unheard of"], dtype=object),
}


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


good = _module(ROOT / "attacks" / "good.py")


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def test_loaded_member_answers_the_same(tmp_path: Path) -> None:
    member = good.member()
    bundle.save(member, tmp_path / "a")
    loaded = bundle.load(tmp_path / "a")
    assert loaded.card == member.card
    np.testing.assert_array_equal(loaded.predict(BATCH).values, member.predict(BATCH).values)


def test_same_member_same_bytes(tmp_path: Path) -> None:
    bundle.save(good.member(), tmp_path / "a")
    bundle.save(good.member(), tmp_path / "b")
    bundle.save(bundle.load(tmp_path / "a"), tmp_path / "c")
    assert files(tmp_path / "a") == files(tmp_path / "b") == files(tmp_path / "c")


def test_document_fits_its_schema(tmp_path: Path) -> None:
    bundle.save(good.member(), tmp_path / "a")
    schema = json.loads((ROOT / "src/conjoin/bundle/schema-1.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(bundle.inspect(tmp_path / "a"), schema)


@pytest.mark.parametrize("name", parts.PARTS)
def test_every_type_of_the_table_is_there_and_storable(name: str) -> None:
    cls = parts.class_of(name)
    assert all(callable(getattr(cls, verb)) for verb in ("children", "pack", "unpack"))


def _storable_classes() -> list[str]:
    """Every class of the package that packs and unpacks, as "module:Class"; kinds of output are not parts."""
    found = []
    for path in sorted((ROOT / "src/conjoin").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for cls in (n for n in tree.body if isinstance(n, ast.ClassDef)):
            verbs = {n.name for n in cls.body if isinstance(n, ast.FunctionDef)}
            protocol = any(ast.unparse(b) == "Protocol" for b in cls.bases)
            if {"children", "pack", "unpack"} <= verbs and not protocol:
                found.append(f"{module}:{cls.name}")
    return found


def test_no_storable_class_is_forgotten() -> None:
    assert [c for c in _storable_classes() if c not in parts.PARTS.values()] == []


def test_the_table_of_children_names_types_that_there_are() -> None:
    inner = {t for allowed in parts.CHILDREN.values() for types in allowed.values() for t in types}
    assert inner | parts.CHILDREN.keys() == parts.PARTS.keys()
