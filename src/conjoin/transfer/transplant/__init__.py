"""Weights of one architecture into another: `transplant`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import InputError, listed
from conjoin.transfer.transplant import files, modules
from conjoin.transfer.transplant.options import Options
from conjoin.transfer.transplant.pairing import Paired, pair
from conjoin.transfer.transplant.plan import Planner, Step
from conjoin.transfer.transplant.report import Fate, Layer, Transplanted
from conjoin.transfer.transplant.run import averaged, fates, made, shared, untied, whole
from conjoin.transfer.transplant.tokens import Vocabulary, classes_of, pieces_of, read_vocabulary
from conjoin.transfer.transplant.weights import Weights, as_given, weights_of
from conjoin.transfer.weights.matching import normalised
from conjoin.transfer.weights.selection import importance
from conjoin.transfer.weights.wiring import Wired, is_table, wire

if TYPE_CHECKING:
    from conjoin.outputs import Array

Names = Sequence[str] | str | os.PathLike[str]


def transplant(
    source: Any,
    target: Any,
    *,
    out: str | os.PathLike[str] | None = None,
    match: str = "auto",
    mapping: Mapping[str, str | None] | str | os.PathLike[str] | None = None,
    width: str = "even",
    depth: str = "even",
    channels: str = "repeat",
    positions: str = "resample",
    prefix: int | None = None,
    source_classes: Names | None = None,
    target_classes: Names | None = None,
    source_tokenizer: str | os.PathLike[str] | None = None,
    target_tokenizer: str | os.PathLike[str] | None = None,
    unseen: str = "pieces",
    leave: Iterable[str] = (),
    align: float | None = None,
    heads: int | None = None,
    noise: float = 0.0,
    seed: int = 0,
    force: bool = False,
) -> Transplanted:
    """Carry the weights of the source into the target, an architecture that may be another.

    source, target: folders or files of safetensors, state dicts (arrays, with bfloat16 bits as uint16, or
    torch tensors), or torch modules. The target's weights are its fresh start; they give names, shapes
    and types. The answer is of the target's kind, in `model`: a new module, a new state dict, or `out`, a
    folder or file, with the target's other files. Neither input is changed. Where the target is a path
    `out` must be given.

    match: "name" (equal, then without wrappers and beginnings), "shape", "structure" (blocks in order),
    "none", or "auto": names, and structure where names say nothing. mapping: target name -> source name,
    or None for fresh; stars stand for text; a mapping, or a file of JSON or YAML. It goes before `match`.

    width: units of layers that differ. Wider: units are repeated and what they give is divided, so that the
    function stays (Net2Wider). Narrower: "even" keeps evenly spaced units, "importance" those of the largest
    weights; "grow" leaves narrower tensors fresh, "crop" takes the common corner, "none" leaves all fresh.
    depth: blocks of stacks, and layers of a chain, that differ in number: "even", "repeat", "first", "last",
    "none" (`depth.depths`); added blocks answer what they are given (Net2Deeper).

    channels: of the input layer: "repeat" as timm, "mean", "first", "fresh". positions: "resample" (a
    grid where it is one: bicubic), "grid", "line", "crop", "fresh"; prefix: rows before the grid.
    source_classes, target_classes: names of the rows of the classifiers, or files with one a line (else
    from config.json): rows go by name. source_tokenizer, target_tokenizer: tokenizer.json (else from the
    folders): rows of embeddings go by token; unseen: of tokens that the source lacks: "pieces" (the mean
    of what spells it), "mean", "zero", "fresh".

    leave: target names, stars allowed, that stay fresh. align: 0 to 1: the source's units are brought
    into the target's order first (Git Re-Basin), then target + align * (source - target). heads: of
    attention, so that whole heads are kept or moved. noise: on grown tensors, as a part of their standard
    deviation, so that equal units part in training.

    Nothing is guessed: what is not clear stays fresh and is told. Raises InputError where nothing is in
    common, names or options are unknown, or weights are NaN or infinite; FileError.

    >>> done = transplant({"a": np.ones(2), "b": np.ones(3)}, {"a": np.zeros(2), "c": np.zeros(4)})
    >>> print(done)
    matched by name; carried 1 (2 parameters), adapted 0 (0 parameters), fresh 1 (4 parameters)
    carried  a
    fresh    c: no partner in the source
    unused   b (3,)
    """
    options = Options(
        match, width, depth, channels, positions, prefix, unseen, tuple(leave), align, heads, noise, seed
    )
    place = _place(source, target, out, force=force)
    old, new = weights_of(source, "source"), weights_of(target, "target")
    notes: dict[str, None] = {}
    wired = _wired(source, old, heads)
    paired = pair(old.shapes, new.shapes, rule=match, mapping=mapping, depth=depth)
    paired = _tied_head(old, new, paired, notes)
    words = _vocabularies(old, new, source_tokenizer, target_tokenizer)
    planner = Planner(
        old,
        new,
        paired,
        options,
        wired,
        wired.groups.sizes({n: np.broadcast_to(0, s) for n, s in old.shapes.items()}),
        words,
        pieces_of(words[0].rows, words[1].rows) if words and unseen == "pieces" else {},
        _classes(old, new, source_classes, target_classes),
        importance(_Lazy(old), wired.groups) if width == "importance" else {},
        notes,
    )
    steps = shared(planner.steps(), modules.ties(target))
    steps = untied(steps, old, new, tied=_tied(target, new), notes=notes)
    _check_any(steps, old, new)
    _check_asked(steps, source_classes, words if source_tokenizer or target_tokenizer else None)
    tensors: dict[str, Array] | None = None
    if align is not None:
        tensors, line = averaged(steps, old, new, options, _wired(target, new, heads))
        notes[line] = None
    model = _answer(target, place, steps, old, new, options, tensors)
    if paired.zero and modules.norms_after(target):
        notes["norms stand after the layers (norm_first=False): added blocks change the answers"] = None
    report = fates(steps, old, new)
    same = modules.ties(source)
    used = {same.get(f.source, f.source) for f in report if f.source is not None and f.kind != "fresh"}
    unused = {n: s for n, s in old.shapes.items() if same.get(n, n) not in used}
    return Transplanted(model, report, unused, paired.by, (*paired.told, *notes))


class _Lazy(Mapping[str, Any]):
    """Tensors that are read when they are looked at."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights

    def __getitem__(self, name: str) -> Any:
        return self._weights.numbers(name)

    def __iter__(self) -> Any:
        return iter(self._weights.shapes)

    def __len__(self) -> int:
        return len(self._weights.shapes)


def _place(source: Any, target: Any, out: Any, *, force: bool) -> Path | None:
    if not isinstance(target, str | os.PathLike):
        if out is not None:
            raise InputError(
                "out is for targets that are folders or files; a state dict or module is returned"
            )
        return None
    if out is None:
        raise InputError("the target is a folder or file, so the answer is one too; give out=")
    sides = {"source": source, "target": target}
    given = {k: Path(v) for k, v in sides.items() if isinstance(v, str | os.PathLike)}
    files.check_free(Path(out), given, force=force)
    return Path(out)


def _wired(given: Any, weights: Weights, heads: int | None) -> Wired:
    """By tracing a module where all of it is known, else by names; heads from the config where not given."""
    found = modules.trace(given)
    if found is not None and found[1]:
        return found[0]
    if heads is None:
        config = {**weights.config(), **modules.config_of(given)}
        counts = [config.get(k) for k in ("num_key_value_heads", "num_attention_heads", "n_head")]
        heads = next((n for n in counts if isinstance(n, int) and n > 0), None)
    named = wire(weights.shapes, heads)
    return named if found is None or named.kind == "transformer" else found[0]


_HEAD, _TABLE = (
    re.compile(r"(^|\.)(lm_head|embed_out)\.weight$"),
    re.compile(r"(^|\.)(embed_tokens|wte|tok_embeddings|embed_in|shared)\.weight$"),
)


def _tied_head(old: Weights, new: Weights, paired: Paired, notes: dict[str, None]) -> Paired:
    """The embedding goes into a language head of its own, where the source's head is its embedding."""
    heads = [n for n in new.shapes if _HEAD.search(n) and n not in paired.found and n not in paired.asked]
    tables = [n for n in old.shapes if _TABLE.search(n)]
    own = any(_HEAD.search(n) for n in old.shapes)
    if len(heads) != 1 or len(tables) != 1 or own or paired.by == "map":
        return paired
    if old.config().get("tie_word_embeddings") is False:
        return paired
    notes[f"{heads[0]}: from {tables[0]}, since the source has no head of its own (tied)"] = None
    return replace(paired, found={**paired.found, heads[0]: tables[0]})


def _tied(target: Any, new: Weights) -> bool:
    """Whether the target's language head is its embedding."""
    if modules.is_module(target):
        names = {normalised(n) for pair in modules.ties(target).items() for n in pair}
        return any(is_table(n, (1, 1)) for n in names) and len(names) > 1
    config = new.config()
    makers = str(config.get("architectures"))
    heads = any(_HEAD.search(n) for n in new.shapes)
    return (
        not heads
        and config.get("tie_word_embeddings") is not False
        and bool(re.search("LMHead|CausalLM", makers))
    )


def _vocabularies(old: Weights, new: Weights, ours: Any, theirs: Any) -> tuple[Vocabulary, Vocabulary] | None:
    """Two vocabularies that differ, or None."""
    paths = []
    for given, weights, side in ((ours, old, "source"), (theirs, new, "target")):
        beside = None if weights.folder is None else weights.folder / "tokenizer.json"
        path = given if given is not None else beside if beside is not None and beside.is_file() else None
        if path is None:
            if ours is not None or theirs is not None:
                raise InputError(f"the {side} has no tokenizer.json; name it ({side}_tokenizer)")
            return None
        paths.append(path)
    if ours is None and theirs is None and Path(paths[0]).read_bytes() == Path(paths[1]).read_bytes():
        return None
    first, second = map(read_vocabulary, paths)
    return None if first.rows == second.rows else (first, second)


def _classes(old: Weights, new: Weights, ours: Names | None, theirs: Names | None) -> Any:
    if (ours is None) != (theirs is None) and old.folder is None and new.folder is None:
        raise InputError("name the classes of both, source and target")
    first, second = classes_of(ours, old.config()), classes_of(theirs, new.config())
    if first is None or second is None:
        if ours is not None or theirs is not None:
            raise InputError("name the classes of both, source and target")
        return None
    return first, second


def _check_any(steps: Sequence[Step], old: Weights, new: Weights) -> None:
    if any(s.kind != "fresh" and s.source is not None for s in steps):
        return
    hint = listed((f"{s.name}: {s.how}" for s in steps), 3) or "none"
    raise InputError(
        f"no layer in common: {len(old.shapes)} tensors in the source ({listed(old.shapes, 3) or 'none'}), "
        f"{len(new.shapes)} in the target ({hint}); try match structure or shape, or give a map of names"
    )


def _check_asked(steps: Sequence[Step], classes: Any, words: Any) -> None:
    if classes is not None and not any("classes by name" in s.how for s in steps):
        why = next((f": {s.name}: {s.how}" for s in steps if s.how == "no class in common"), "")
        raise InputError(f"classes are named, but no classifier has as many rows on both sides{why}")
    if words is not None and not any("rows by token" in s.how for s in steps):
        raise InputError(
            f"tokenizers are given, but no table of embeddings has rows for their {words[0].least} and "
            f"{words[1].least} tokens"
        )


def _answer(
    target: Any,
    place: Path | None,
    steps: Sequence[Step],
    old: Weights,
    new: Weights,
    options: Options,
    tensors: Mapping[str, Array] | None,
) -> Any:
    by_name = {s.name: s for s in steps}
    if place is not None:

        def blocks(name: str) -> Any:
            if tensors is not None:
                return iter([(slice(None), tensors[name].reshape(-1))])
            return made(by_name[name], old, new, options)

        files.write(Path(target), place, blocks)
        return place
    found = {n: whole(s, old, new, options) if tensors is None else tensors[n] for n, s in by_name.items()}
    if isinstance(target, Mapping):
        return {n: as_given(found[n], new.dtypes[n], target[n]) for n in target}
    return modules.filled(
        target,
        {
            n: as_given(x, new.dtypes[n], like)
            for (n, x), like in zip(found.items(), target.state_dict().values(), strict=True)
        },
    )


__all__ = ["Fate", "Layer", "Options", "Transplanted", "transplant"]
