"""Recipes of several documents: order, what is refused with its line, going on where a merge was stopped."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from conjoin.errors import InputError
from conjoin.transfer.checkpoints import write_header
from conjoin.transfer.merge import merge_recipe
from conjoin.transfer.merge.documents import in_order
from conjoin.transfer.merge.recipe import parse_all

SPEC = importlib.util.spec_from_file_location("world_of_merging", Path(__file__).parent / "world.py")
world = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(world)


def document(name, *models, method="linear"):
    head = f"name: {name}\n" if name else ""
    listed = "".join(f"- model: {m}\n  parameters: {{weight: 1}}\n" for m in models)
    return f"{head}merge_method: {method}\nmodels:\n{listed}"


def several(*documents):
    return "---\n".join(documents)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("a", "b", "c")):
        world.model(tmp_path / name, seed)
    return tmp_path


def test_the_order():
    text = several(document("", "two", "x"), document("two", "one", "y"), document("one", "x"))
    assert [r.name for r in in_order(parse_all(text))] == ["one", "two", ""]
    text = several(document("end", "one", "one+lora"), document("one", "x"))  # none without a name
    assert [r.name for r in in_order(parse_all(text))] == ["one", "end"]
    text = several(document("spare", "x"), document("", "y"))  # what nobody needs is not merged
    assert [r.name for r in in_order(parse_all(text))] == [""]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (several(document("a", "x"), document("a", "y")), "line 7: the name 'a' is given twice; .* line 1"),
        (several(document("", "x"), document("", "y")), "line 6: two documents have no name; .* line 1"),
        (several(document("a", "x"), document("b", "y")), "which document is the answer. 'a', 'b' are named"),
        (
            several(document("a", "b"), document("b", "a"), document("", "a")),
            "line 10: .* circle: a -> b -> a",
        ),
        (several(document("a", "a"), document("", "a")), "line 4: documents name each other in a circle"),
        (several(document("a", "b"), document("b", "a")), "in a circle; leave out the name"),
    ],
)
def test_refused(text, told):
    with pytest.raises(InputError, match=told):
        in_order(parse_all(text))


def test_they_are_merged_one_after_another(here):
    (here / "r.yml").write_text(several(document("first one", "a", "b"), document("", "'first one'", "c")))
    seen = []
    done = merge_recipe(here / "r.yml", here / "out", report=seen.append)
    a, b, c, out = (world.arrays(here / n) for n in ("a", "b", "c", "out"))
    for name, found in out.items():
        np.testing.assert_allclose(found, ((a[name] + b[name]) / 2 + c[name]) / 2, rtol=1e-6, atol=1e-7)
    assert done.models == ("first one", "c")
    assert {p.name for p in here.iterdir()} == {"a", "b", "c", "out", "r.yml"}
    assert [s.bytes for s in seen] == sorted(s.bytes for s in seen)
    assert seen[-1].bytes == seen[-1].all_bytes
    assert seen[0].name.startswith("first one: ")


class Killed(BaseException):
    """Ends a run as a signal would."""


def test_a_stopped_merge_goes_on(here):
    text = several(document("one", "a", "b"), document("two", "b", "c"), document("", "one", "two"))
    (here / "r.yml").write_text(text)
    merge_recipe(here / "r.yml", here / "whole", report=(whole := []).append)
    for stop in (3, 12, 8):
        seen = []

        def report(progress, seen=seen, stop=stop):
            seen.append(progress.name)
            if len(seen) == stop:
                raise Killed

        with pytest.raises(Killed):
            merge_recipe(here / "r.yml", here / "out", report=report)
        assert not (here / "out").exists()
    seen.clear()
    merge_recipe(here / "r.yml", here / "out", report=lambda p: seen.append(p.name))
    assert len(whole) == 27
    assert len(seen) == 4
    assert (here / "out" / "model.safetensors").read_bytes() == (
        here / "whole" / "model.safetensors"
    ).read_bytes()


def test_a_changed_document_is_merged_anew(here):
    (here / "r.yml").write_text(several(document("one", "a", "b"), document("", "one", "c")))
    merge_recipe(here / "r.yml", here / "kept", keep=True)
    assert (here / ".kept.documents" / "0" / "model.safetensors").is_file()
    seen = []
    merge_recipe(here / "r.yml", here / "kept", keep=True, force=True, report=lambda p: seen.append(p.name))
    assert not any(n.startswith("one: ") for n in seen)
    (here / "r.yml").write_text(several(document("one", "a", "c"), document("", "one", "c")))
    merge_recipe(here / "r.yml", here / "kept", keep=True, force=True, report=lambda p: seen.append(p.name))
    assert any(n.startswith("one: ") for n in seen)
    a, c, out = (world.arrays(here / n) for n in ("a", "c", "kept"))
    name = "model.norm.weight"
    np.testing.assert_allclose(out[name], ((a[name] + c[name]) / 2 + c[name]) / 2, rtol=1e-6)


def test_notes_of_all_documents(here):
    first = document("one", "a", "b") + "parameters: {density: 0.5}\n"
    (here / "r.yml").write_text(several(first, document("spare", "a"), document("", "one", "a")))
    notes = merge_recipe(here / "r.yml", here / "out").notes
    assert "documents that nothing needs were not merged: 'spare'" in notes
    assert any(n.startswith("one: line 8: linear has no parameter 'density'") for n in notes)


def test_an_adapter_on_a_document(here):
    lora = here / "lora"
    lora.mkdir()
    start = "base_model.model.model.layers.0.mlp.up_proj.lora_"
    header = write_header([(f"{start}A.weight", "F32", (1, 8)), (f"{start}B.weight", "F32", (8, 1))], {})
    (lora / "adapter_model.safetensors").write_bytes(header + np.ones(16, np.float32).tobytes())
    (lora / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 1, "lora_alpha": 2}')
    (here / "r.yml").write_text(several(document("one", "a"), document("", "one+lora")))
    merge_recipe(here / "r.yml", here / "out")
    name = "model.layers.0.mlp.up_proj.weight"
    a, out = world.arrays(here / "a"), world.arrays(here / "out")
    np.testing.assert_allclose(out[name], a[name] + 2, rtol=1e-6)
    assert (out["model.norm.weight"] == a["model.norm.weight"]).all()


def test_what_is_wrong_in_a_later_document_is_told_at_once(here):
    world.model(here / "c", 2, rows=30)
    first = document("one", "a", "b")
    for text, told in (
        (several(first, document("", "one", "c")), r"embed_tokens.*one: \[24, 8\], c: \[30, 8\]"),
        (
            several(first, document("", "onee", "a")),
            "line 11: 'onee' is neither a document .* did you mean 'one'",
        ),
        (several(first, document("", "one", "a", method="slerp")), "slerp"),
        (several(first, document("", "one", "a")).replace("weight: 1}", "weight: 0}"), "sum to 0"),
    ):
        (here / "r.yml").write_text(text)
        with pytest.raises(InputError, match=told):
            merge_recipe(here / "r.yml", here / "out")
        assert {p.name for p in here.iterdir()} == {"a", "b", "c", "r.yml"}


def test_a_folder_that_holds_something_is_told_before_the_first_document(here):
    (here / "r.yml").write_text(several(document("one", "a", "b"), document("", "one", "a")))
    (here / "out").mkdir()
    (here / "out" / "precious").write_text("x")
    with pytest.raises(InputError, match="already there"):
        merge_recipe(here / "r.yml", here / "out")
    assert not (here / ".out.documents").exists()
