"""What a recipe means, and what is refused with its line."""

import pytest

from conjoin.errors import FileError, InputError
from conjoin.transfer.merge.recipe import parse, parse_all, read_recipe
from conjoin.transfer.merge.reference import Reference
from conjoin.transfer.weights import checked

TWO = "models:\n- model: a\n- model: b\n"


def value(text, name, depth, key="weight"):
    found = parse(f"merge_method: linear\nparameters:\n  weight: {text}\n{TWO}")
    return found.parameters[key].at(name, depth, lambda v: checked(found.method, key, v))


@pytest.mark.parametrize(
    ("text", "name", "depth", "wanted"),
    [
        ("0.5", "x", 0, 0.5),
        ("1e-3", "x", 0, 0.001),  # YAML reads a word
        ("[0, 1]", "x", 0.25, 0.25),
        ("[0, 1, 0]", "x", 0.75, 0.5),
        ("[0, 1, 3]", "x", 1, 3),
        ("[1e-3, 3]", "x", 0, 0.001),
        ("[{filter: mlp, value: [0, 2]}, {value: 5}]", "h.1.mlp.w", 0.5, 1),
        ("[{filter: mlp, value: [0, 2]}, {value: 5}]", "h.1.attn.w", 0.5, 5),
        ("[{filter: mlp, value: 1}, 7]", "h.1.attn.w", 0.5, 7),
        ("[{filter: '*', value: 1}, {value: 5}]", "any", 0.5, 1),
        ("{filter: mlp, value: 1}", "h.1.attn.w", 0, None),
    ],
)
def test_values(text, name, depth, wanted):
    assert value(text, name, depth) == wanted


def test_words_and_flags_are_chosen_not_mixed():
    found = parse(f"merge_method: linear\nparameters: {{weight: 1, normalize: [true, false]}}\n{TWO}")
    read = found.parameters["normalize"].at
    assert [read("x", d, lambda v: checked(found.method, "normalize", v)) for d in (0, 0.9, 1)] == [
        True,
        True,
        False,
    ]


def test_merge_keys_of_yaml():
    text = """
merge_method: linear
models:
- model: a
  parameters: &p {weight: 0.5}
- model: b
  parameters: {<<: *p, weight: 0.7}
"""
    found = parse(text).slices[0].sources
    assert [i.parameters["weight"].cases[0].value for i in found] == [0.5, 0.7]


def test_parameters_of_other_methods_are_told():
    found = parse(f"merge_method: linear\nparameters: {{weight: 1, density: 0.5}}\n{TWO}")
    assert found.notes == ("line 2: linear has no parameter 'density'; it does nothing",)


HEAD = "merge_method: ties\nbase_model: a\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "line 1: the recipe is empty"),
        ("3", "line 1: the recipe must be a mapping"),
        (TWO, "merge_method is missing"),
        ("merge_method: tise\n" + TWO, "line 1: no merging method 'tise'; did you mean 'ties'"),
        (
            HEAD + TWO + "parameters:\n  densty: 1",
            "line 7: ties has no parameter 'densty'; did you mean 'density'",
        ),
        (
            HEAD + TWO + "parameters:\n\n  density: 1.5",
            "line 8: the parameter 'density' of ties must lie in 0 to 1",
        ),
        (HEAD + TWO + "parameters: {density: [0.5, x]}", "must be a number, not 'x'"),
        (HEAD + TWO + "parameters: {weight: .nan}", "must be finite"),
        (HEAD + TWO + "parameters: {weight: [{filter: a, valu: 1}]}", "'valu'; did you mean 'value'"),
        (HEAD + TWO + "parameters: {weight: {filter: a}}", "value is missing"),
        (HEAD + TWO + "parameters: {weight: []}", "must be a list with something in it"),
        (HEAD + TWO + "parameters: {weight: {a: {b: 1}}}", "has no key 'a'"),
        (HEAD + "model: a", "line 3: the recipe has no key 'model'; did you mean 'models'"),
        (HEAD + "models: [{modle: a}]", "'modle'; did you mean 'model'"),
        (HEAD + "models: []", "something in it"),
        (HEAD, "either models or slices"),
        (HEAD + TWO + "slices: []", "either models or slices"),
        (HEAD + TWO + "dtype: float61", "line 6: no type of weights 'float61'; did you mean 'float64'"),
        (HEAD + TWO + "base_model: b", "line 6: 'base_model' is given twice"),
        (HEAD + TWO + "modules: {}", r"line 1: a recipe holds either models or slices or modules"),
        (HEAD + "modules: {}", r"line 3: modules must hold a module"),
        (HEAD + "modules: {text: {}}", r"line 3: the module 'text' holds either models or slices"),
        (HEAD + "modules: {text: {modles: []}}", r"line 3: .*'modles'; did you mean 'models'"),
        (HEAD + "modules: {a: {models: [{model: a}], parameters: {densty: 1}}}", "did you mean 'density'"),
        (HEAD + TWO + "---\n" + HEAD, "line 7: a recipe holds either"),
        (HEAD + TWO + "---\n" + HEAD + TWO, "line 7: one document is wanted here"),
        (HEAD + "models: [{model: a/b+lora+more}]", "line 3: .*more than one adapter"),
        (HEAD + "models: [{model: +lora}]", "line 3: .*must be a model"),
        (HEAD + "models: [{model: a/b@main}]", "line 3: .*'a/b@main': revisions are not fetched"),
        (HEAD + "models: [{model: a/b+lora@v1}]", "line 3: 'lora@v1': revisions are not fetched"),
        (HEAD + "models: [{model: {model: {path: a, revision: x}}}]", "line 3: 'a@x': revisions"),
        (HEAD + "models: [{model: {lora: b}}]", "line 3: model is missing"),
        (HEAD + "models: [{model: {model: {revision: b}}}]", "line 3: path is missing"),
        (HEAD + "models: [{model: {model: a, laro: b}}]", "has no key 'laro'; there are model, lora"),
        (
            HEAD + "slices: [{sources: [{model: a, layer_range: [0, 1]}], residual_weight: x}]",
            "residual_weight must be a number",
        ),
        (HEAD + "slices: [{sources: [{model: a}]}]", "layer_range is missing"),
        (HEAD + "slices: [{sources: [{model: a, layer_range: [3, 1]}]}]", "layer_range must be"),
        (
            HEAD + "slices: [{sources: [{model: a, layer_range: [0, 1]}, {model: b, layer_range: [0, 2]}]}]",
            "equally many layers, not 1, 2",
        ),
        ("a: [", "line 1: no YAML"),
        ("a: !!python/object:os.system x", "has no key 'a'"),
        ("merge_method: !!python/name:os.system x", "line 1: no YAML"),
        ("[" * 100_000, "nested too deeply|no YAML"),
        ("a: &a [*a]", "has no key"),
    ],
)
def test_refused(text, told):
    with pytest.raises(InputError, match=told):
        parse(text)


def test_aliases_cannot_grow():
    text = "merge_method: linear\nmodels:\n- &m {model: a}\n" + "- *m\n" * 60_000
    with pytest.raises(InputError, match="too often"):
        parse(text)


def test_files_that_are_no_recipes(tmp_path):
    with pytest.raises(FileError, match="cannot be read"):
        read_recipe(tmp_path / "absent.yml")
    (tmp_path / "b.yml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileError, match="UTF-8"):
        read_recipe(tmp_path / "b.yml")
    (tmp_path / "c.yml").write_bytes(b"#" * 2_000_000)
    with pytest.raises(FileError, match="larger"):
        read_recipe(tmp_path / "c.yml")


def names(text):
    return parse(f"merge_method: linear\nparameters: {{weight: 1}}\nmodels:\n- model: {text}\n").references


def test_models_as_words_and_as_mappings():
    wanted = Reference("a/b", "c/d")
    for text in (
        "a/b+c/d",
        "{model: a/b, lora: c/d}",
        "{model: {path: a/b}, lora: {path: c/d}, override_architecture: X}",
    ):
        assert names(text) == {"a/b+c/d": wanted}
    assert names("a/b") == names("{model: {path: a/b}}") == {}


def test_a_folder_whose_name_holds_a_sign_is_that_folder(tmp_path):
    (tmp_path / "a+b@1").mkdir()
    (tmp_path / "r.yml").write_text(
        "merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: a+b@1}, {model: a+b@1+c}]\n"
    )
    found = read_recipe(tmp_path / "r.yml")
    assert found.models == ("a+b@1", "a+b@1+c")
    assert found.references == {"a+b@1+c": Reference("a+b@1", "c")}


def test_what_does_nothing_is_told():
    found = parse(
        "merge_method: passthrough\nslices:\n- residual_weight: 0.5\n  sources:\n"
        "  - model: {model: a, override_architecture: X}\n    layer_range: [0, 1]\n"
    )
    assert [n.split(";")[0] for n in found.notes] == [
        "line 3: residual_weight does nothing, as in mergekit",
        "line 5: override_architecture does nothing",
    ]


def test_modules():
    text = """
merge_method: ties
base_model: base
modules:
  encoder: {models: [{model: a, parameters: {weight: 1}}], parameters: {density: 0.5}}
  decoder:
    slices: [{sources: [{model: b, layer_range: [0, 2]}, {model: base, layer_range: [0, 2]}]}]
"""
    found = parse(text)
    assert found.slices == ()
    assert [(m.name, m.stacked, m.line) for m in found.modules] == [
        ("encoder", False, 5),
        ("decoder", True, 7),
    ]
    assert found.models == ("base", "a", "b")
    assert found.modules[0].parameters["density"].cases[0].value == 0.5


def test_documents():
    one = "name: one\nmerge_method: linear\nparameters: {weight: 1}\nmodels: [{model: a}]\n"
    found = parse_all(one + "---\n" + one.replace("one", "two") + "---\n")
    assert [f.name for f in found] == ["one", "two"]
    assert found[1].lines["name"] == 6
