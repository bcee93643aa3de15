"""A model as a recipe names it: a folder, or a document of the recipe, with or without an adapter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from conjoin.errors import InputError


@dataclass(frozen=True, slots=True)
class Reference:
    """path: the folder or file of a model, or the name of another document. adapter: of LoRA, or None."""

    path: str
    adapter: str | None = None

    @property
    def name(self) -> str:
        """How the model is called in messages."""
        return self.path if self.adapter is None else f"{self.path}+{self.adapter}"


def reference(text: str, there: Callable[[str], bool]) -> Reference:
    """What `path`, `path+adapter`, `path@revision+adapter@revision` mean. there: whether a path exists.

    A folder whose own name holds + or @ is that folder. Raises InputError on a revision: nothing is fetched.

    >>> reference("base+lora", lambda path: False)
    Reference(path='base', adapter='lora')
    """
    if there(text):
        return Reference(text)
    parts = text.split("+")
    if len(parts) > 1 and there("+".join(parts[:-1])):
        parts = ["+".join(parts[:-1]), parts[-1]]
    if len(parts) > 2:
        raise InputError(f"{text!r} names more than one adapter; a model takes one, as model+adapter")
    if not all(parts):
        raise InputError(f"{text!r} must be a model, or model+adapter")
    found = [plain(part, there) for part in parts]
    return Reference(*found)


def plain(path: str, there: Callable[[str], bool]) -> str:
    """The path, without revision. Raises InputError."""
    if there(path) or "@" not in path:
        return path
    folder, _, revision = path.rpartition("@")
    raise InputError(
        f"{path!r}: revisions are not fetched; give the folder in which revision {revision!r} "
        f"of {folder!r} lies"
    )
