"""`make docs`: the reference, one Markdown page per part, from the docstrings of its public names.

Written to docs/reference/, which git ignores: the code is the authority.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from types import ModuleType

PARTS = (
    "conjoin", "conjoin.contracts", "conjoin.errors", "conjoin.outputs", "conjoin.scores", "conjoin.tables",
    "conjoin.graph.builder", "conjoin.members", "conjoin.fusion", "conjoin.compose", "conjoin.train",
    "conjoin.checks", "conjoin.bundle", "conjoin.report", "conjoin.fusion.labels", "conjoin.fusion.ranking",
    "conjoin.fusion.boxes", "conjoin.fusion.masks", "conjoin.fusion.spans", "conjoin.fusion.texts",
    "conjoin.fusion.embeddings", "conjoin.fusion.series", "conjoin.fusion.dynamic",
    "conjoin.fusion.modalities", "conjoin.formats", "conjoin.transfer.weights", "conjoin.transfer.merge",
    "conjoin.transfer.transplant", "conjoin.transfer.distil", "conjoin.transfer.finetune",
)  # fmt: skip
FOLDER = Path(__file__).parent / "reference"


def public_names(module: ModuleType) -> list[str]:
    """`__all__`, or what the module itself defines without a leading underscore."""
    if "__all__" in vars(module):
        return list(module.__all__)
    return [n for n, v in vars(module).items() if not n.startswith("_") and _home(v) == module.__name__]


def _home(value: object) -> str | None:
    return getattr(value, "__module__", None) if inspect.isclass(value) or inspect.isfunction(value) else None


def entry(name: str, value: object) -> str:
    """One public name: its signature and its docstring."""
    doc = inspect.getdoc(value) or ""
    if not callable(value):
        return f"## {name}\n\n`{value!r}`\n" if len(repr(value)) < 400 else f"## {name}\n"
    try:
        signature = str(inspect.signature(value))
    except ValueError:
        signature = "(...)"
    return f"## {name}\n\n```python\n{name}{signature}\n```\n\n{doc}\n"


def page(part: str) -> str:
    """The page of one part: what its module says of itself, then its names."""
    module = importlib.import_module(part)
    entries = [entry(n, getattr(module, n)) for n in public_names(module)]
    return f"# {part}\n\n{inspect.getdoc(module) or ''}\n\n" + "\n".join(entries)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for part in PARTS:
        (FOLDER / f"{part}.md").write_text(page(part), encoding="utf-8")
    names = "\n".join(f"- [{p}]({p}.md)" for p in PARTS)
    (FOLDER / "index.md").write_text(f"# Reference\n\n{names}\n", encoding="utf-8")
    print(f"{len(PARTS)} pages in {FOLDER.relative_to(Path.cwd())}")


if __name__ == "__main__":
    main()
