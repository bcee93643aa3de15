"""What lies beside the weights of a model: its config, its tokenizer, the recipe, a card."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from conjoin.transfer.merge.chat import FILE as CHAT
from conjoin.transfer.merge.chat import chat_template, with_template
from conjoin.transfer.merge.config import configs_of
from conjoin.transfer.merge.parts import Case, Recipe, Settings
from conjoin.transfer.merge.plan import Plan
from conjoin.transfer.merge.tokens import folder_of, tokenizer_folder
from conjoin.transfer.merge.vocabulary import FILES, files_of_vocabulary, read_bytes, read_vocabulary

OTHERS = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
CHATS = (CHAT, "chat_template.json")
RECIPE, CARD = "recipe.yml", "README.md"


def files_of(recipe: Recipe, found: Plan) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """The files of the answer by name, and notes. Raises InputError and FileError."""
    folders = [folder_of(c.path) for c in found.inputs]
    tokenizers = [tokenizer_folder(c) for c in found.inputs]
    joined = found.joined
    home = tokenizers[joined.home]
    names = (*CHATS, *(() if joined.vocabulary else FILES))
    out = {name: read_bytes(home / name) for name in names if (home / name).is_file()}
    if joined.vocabulary:
        out |= files_of_vocabulary(joined.vocabulary)
    out |= {name: read_bytes(folders[0] / name) for name in OTHERS if (folders[0] / name).is_file()}
    template, notes = chat_template(recipe, tokenizers)
    if template is not None:
        if not any(name in out for name in FILES):
            notes += (f"there is no tokenizer to hold the chat template; it is in {CHAT}",)
        out = with_template(out, template)
    configs, told = configs_of(recipe, found, folders)
    text = _recipe_text(recipe)
    out |= {**configs, RECIPE: text.encode(), CARD: _card(recipe, found, text).encode()}
    return out, (*joined.notes, *notes, *told, *_differing(recipe, found.models, tokenizers))


def _differing(recipe: Recipe, models: Sequence[str], folders: Sequence[Path]) -> tuple[str, ...]:
    """A note where tokenizers differ and the recipe says nothing of them."""
    paths = [f / "tokenizer.json" for f in folders]
    there = [p for p in paths if p.is_file()]
    if recipe.tokens is not None or len(there) < 2:
        return ()
    first = read_bytes(there[0])
    for path in there[1:]:
        if read_bytes(path) != first and _ids(path.parent) != _ids(there[0].parent):
            return (
                f"{path} has another vocabulary than {there[0]}; the tokenizer is that of {models[0]}, and "
                "rows are merged by their numbers (tokenizer: {source: base} or union matches them by token)",
            )
    return ()


def _ids(folder: Path) -> Mapping[str, int]:
    found = read_vocabulary(folder)
    return found.ids if found else {}


def _recipe_text(recipe: Recipe) -> str:
    """The recipe as it was written, or YAML of one that was made by a call."""
    path = Path(recipe.path)
    if recipe.path and path.is_file():
        return read_bytes(path).decode("utf-8", "replace")
    told: dict[str, Any] = {"merge_method": recipe.method.name}
    if recipe.base:
        told["base_model"] = recipe.base
    sources = [s for part in recipe.every_slice for s in part.sources]
    told["models"] = [
        {"model": s.model} | ({"parameters": _told(s.parameters)} if s.parameters else {}) for s in sources
    ]
    if recipe.parameters:
        told["parameters"] = _told(recipe.parameters)
    if recipe.dtype:
        told["dtype"] = recipe.dtype.lower()
    return str(yaml.safe_dump(told, sort_keys=False, allow_unicode=True))


def _told(settings: Settings) -> dict[str, Any]:
    return {name: [_case(c) for c in s.cases] for name, s in settings.items()}


def _case(case: Case) -> Any:
    value = list(case.value) if isinstance(case.value, tuple) else case.value
    return {"value": value} if case.filter is None else {"filter": case.filter, "value": value}


def _card(recipe: Recipe, found: Plan, text: str) -> str:
    """A model card, without times and places, so that the same merge has the same bytes."""
    version = importlib.metadata.version("conjoin")
    names = [Path(m).name or m for m in found.models]
    marks = [" (the base)" if m == recipe.base else "" for m in found.models]
    fence = "`" * (3 if "```" not in text else 1 + max(len(run) for run in _fences(text)))
    return "\n".join(
        [
            "---",
            "library_name: transformers",
            "tags:",
            "- merge",
            "- conjoin",
            "---",
            "# A merged model",
            "",
            f"Made by conjoin {version} with the method `{recipe.method.name}`"
            + (f" ({recipe.method.paper})." if recipe.method.paper else "."),
            "",
            "Merged were:",
            "",
            *(f"- {name}{mark}" for name, mark in zip(names, marks, strict=True)),
            "",
            f"The recipe, also in `{RECIPE}`:",
            "",
            f"{fence}yaml",
            text.rstrip("\n"),
            fence,
            "",
        ]
    )


def _fences(text: str) -> list[str]:
    runs, run = [], ""
    for letter in text + " ":
        if letter == "`":
            run += letter
        elif run:
            runs.append(run)
            run = ""
    return runs
