"""Ensemble: members and a fuser, together one member."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from conjoin.compose.calls import ask, call_fit, call_fuser, is_fit, recorded
from conjoin.compose.cards import card_of, check_members
from conjoin.contracts import Card, ExportableFuser, ExportableMember, Member, Storable
from conjoin.errors import (
    BundleError,
    InputError,
    MemberError,
    NotExportableError,
    OutputsError,
)
from conjoin.members.answers import as_batch, check_answer, rows_of
from conjoin.members.compiled import ELEMENT, Compiled, compiled
from conjoin.members.onnx import OnnxMember
from conjoin.members.portable import card_from_json, card_to_json
from conjoin.members.wrapped import class_names
from conjoin.outputs import Labels, Output, Probabilities, Values

if TYPE_CHECKING:
    from conjoin.contracts import Batch
    from conjoin.graph.builder import Graph
    from conjoin.outputs import Array, Json


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Members and the fuser that makes one answer of theirs. An ensemble is a member.

    members: name -> member, all of one kind. fuser: a plain fuser (`fusion.mean`), a fitted one
    (`LinearPool(...)`), or a function that fits one (`fusion.fit_log_pool`): then `fit` has to be called
    before `predict`. card: what is known of it; by default it is put together from the members' cards.

    Classes are aligned by name: first those of the first member, then what the others add; a class that
    a member does not know gets 0 from it. Members with no class in common, or of different kinds or levels,
    are refused with OutputsError.

    >>> from conjoin.members import wrap
    >>> a = wrap(lambda batch: batch["x"], classes=["no", "yes"])
    >>> b = wrap(lambda batch: batch["x"], classes=["yes", "no"])
    >>> from conjoin.fusion import mean
    >>> Ensemble({"a": a, "b": b}, mean).predict({"x": np.array([0.9])}).values
    array([[0.5, 0.5]])
    """

    members: Mapping[str, Member[Any]]
    fuser: Callable[..., Any]
    name: str = field(default="ensemble", kw_only=True)
    card: Card = field(default=cast(Card, None), kw_only=True)

    def __post_init__(self) -> None:
        members = MappingProxyType(dict(self.members))
        check_members(members)
        if not callable(self.fuser):
            raise InputError(f"the fuser must be callable, not a {type(self.fuser).__name__}")
        card = self.card or card_of(members, self.name)
        self._set(members=members, card=card, name=card.name, fuser=recorded(self.fuser, card.kind))

    @cached_property
    def fitted(self) -> bool:
        """Whether the fuser can fuse; False where it is a function that fits one."""
        return not is_fit(self.fuser)

    def predict(self, batch: Batch, /) -> Output:
        """One answer for each row.

        Where all members and the fuser have an ONNX form, one graph answers in a single pass. Raises
        InputError where the fuser is not fitted, ColumnError, and MemberError naming the member that failed.
        """
        if not self.fitted:
            raise InputError(
                f"the fuser of {self.card.name!r} is not fitted; call ensemble.fit(batch, truth), which "
                "returns a fitted ensemble"
            )
        if self._compiled is None:
            batch = as_batch(batch)
            return self.fuse(self._ask(batch, self._needed), batch=batch)
        (output,) = self._compiled.outputs(batch).values()
        try:
            check_answer(output, self.card, len(output))
        except MemberError:
            self.outputs(batch)  # the member that is to blame raises here
            raise
        return output

    def outputs(self, batch: Batch, /) -> dict[str, Output]:
        """What each member answers, by name, with the classes of the ensemble. Raises as `predict`."""
        if self._side_by_side is not None:
            found = self._side_by_side.outputs(batch)
            for name, output in found.items():
                check_answer(output, self.members[name].card.named(name), len(output))
            return {name: self._aligned(output) for name, output in found.items()}
        return self._ask(as_batch(batch), tuple(self.members))

    def fuse(self, outputs: Mapping[str, Output], *, batch: Batch | None = None) -> Output:
        """One output of the members' outputs, which may be some of them. Raises OutputsError."""
        aligned = {name: self._aligned(output) for name, output in outputs.items()}
        fused = call_fuser(self.fuser, aligned, batch)
        if not isinstance(fused, Output):
            raise OutputsError(f"the fuser answered a {type(fused).__name__}, not an Output")
        rows = len(next(iter(aligned.values())))
        check_answer(self._aligned(fused), self.card, rows)
        return self._aligned(fused)

    def fit(
        self,
        batch: Batch,
        truth: Any,
        /,
        *,
        weights: Any = None,
        score: Any = None,
        seed: int = 0,
        **parameters: Any,
    ) -> Ensemble:
        """A new ensemble whose fuser is fitted on the members' answers to these rows.

        The rows should be ones that the members did not learn from. truth: an Output (labels or values), or
        a sequence of n class names or numbers. weights: (n,) of the rows. score and parameters: of the
        function that fits. Raises InputError where the fuser cannot be fitted.
        """
        if self.fitted:
            raise InputError(
                "this fuser is fitted already, or needs no fitting; give one of conjoin.fusion's fit_*"
            )
        batch = as_batch(batch)
        known = {"weights": weights, "score": score, "seed": seed, "batch": batch}
        return self.fit_fuser(self.outputs(batch), truth, **known, **parameters)

    def fit_fuser(self, outputs: Mapping[str, Output], truth: Any, /, **parameters: Any) -> Ensemble:
        """The same with answers of the members that are there already, such as out-of-fold ones.

        Parameters that are None are left out, and so are `seed` and `batch` where the function does not take
        them.
        """
        aligned = {name: self._aligned(output) for name, output in outputs.items()}
        return replace(self, fuser=call_fit(self.fuser, aligned, self._truth(truth), parameters))

    def emit(self, graph: Graph, /) -> str:
        """Members, alignment of classes and the fuser, as nodes. Raises NotExportableError."""
        if not self.fitted or not isinstance(self.fuser, ExportableFuser):
            what = "is not fitted" if not self.fitted else "has no ONNX form"
            raise NotExportableError(f"the fuser of {self.card.name!r} {what}")
        tensors = {}
        for name in self._needed:
            member = self.members[name]
            if not isinstance(member, ExportableMember):
                raise NotExportableError(f"member {name!r}, a {type(member).__name__}, has no ONNX form")
            tensor = graph.once(member, lambda m=member: m.emit(graph))
            tensors[name] = self._aligned_tensor(graph, tensor, member.card)
        return self.fuser.emit(graph, tensors)

    def named(self, name: str) -> Ensemble:
        """The same ensemble under another name."""
        return replace(self, name=name, card=self.card.named(name))

    def children(self) -> Mapping[str, Storable]:
        """The members as "member:NAME", and the fuser."""
        found = {f"member:{n}": m for n, m in self.members.items()}
        return cast("Mapping[str, Storable]", found | {"fuser": self.fuser})

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """The card and the names of the members; members and fuser are children."""
        return {}, {"card": card_to_json(self.card), "members": list(self.members)}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError where a part is missing or does not fit."""
        try:
            names = [str(n) for n in cast("list[str]", meta["members"])]
            members = {n: children[f"member:{n}"] for n in names}
            return cls(members, children["fuser"], card=card_from_json(meta["card"]))
        except (KeyError, TypeError, InputError) as error:
            raise BundleError(f"a packed ensemble does not make sense: {error}") from error

    @property
    def in_graph(self) -> bool:
        """Whether it is made of graphs alone: members stored as such, and a fuser with an ONNX form."""
        return self._all_graphs and isinstance(self.fuser, ExportableFuser)

    @property
    def _needed(self) -> tuple[str, ...]:
        """The members that the fuser looks at: those of weight 0 are not asked."""
        needs = set(getattr(self.fuser, "needs", ()))
        return tuple(n for n in self.members if n in needs) or tuple(self.members)

    def _ask(self, batch: Batch, names: tuple[str, ...]) -> dict[str, Output]:
        rows = rows_of(batch)
        return {n: self._aligned(ask(n, self.members[n], batch, rows)) for n in names}

    @property
    def _all_graphs(self) -> bool:
        return self.card.kind in ELEMENT and all(map(_is_graph, self.members.values()))

    @cached_property
    def _compiled(self) -> Compiled | None:
        """All of it as one graph, None where a part has no ONNX form or answers natively."""
        return _built({self.card.name: self}) if self.in_graph else None

    @cached_property
    def _side_by_side(self) -> Compiled | None:
        """The members as one graph, one output each."""
        return _built(cast(Any, self.members)) if self._all_graphs else None

    def _aligned(self, output: Output) -> Output:
        if isinstance(output, Probabilities | Labels) and self.card.classes:
            return output.align(self.card.classes)
        return output

    def _aligned_tensor(self, graph: Graph, tensor: str, card: Card) -> str:
        if card.classes == self.card.classes or card.kind != Probabilities.kind:
            return tensor
        own = np.array(card.classes)[:, None] == np.array(self.card.classes)[None, :]
        return graph.op("MatMul", tensor, graph.const(own.astype(np.float32)))

    def _truth(self, truth: Any) -> Output:
        if isinstance(truth, Output):
            return truth
        if self.card.kind in (Probabilities.kind, Labels.kind):
            names = [None if v is None else class_names([v])[0] for v in np.asarray(truth).tolist()]
            return Labels.of(names, self.card.classes or None)
        return Values(np.asarray(truth, dtype=np.float64))

    def _set(self, **fields: object) -> None:
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def __getstate__(self) -> dict[str, Any]:
        return {"members": dict(self.members), "fuser": self.fuser, "name": self.name, "card": self.card}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._set(**state | {"members": MappingProxyType(state["members"])})


def _built(members: Mapping[str, Any]) -> Compiled | None:
    """One graph for these members, None where it cannot be built or does not run."""
    made = compiled(members)
    try:
        made.columns  # noqa: B018  builds the graph, which is when a part says that it has no ONNX form
    except (NotExportableError, BundleError):
        return None
    return made


def _is_graph(member: Member[Any]) -> bool:
    """Whether a member is its graph. One that has an ONNX form but is not stored as one answers natively."""
    if isinstance(member, Ensemble):
        return member.in_graph
    if isinstance(member, OnnxMember) and not member.by_name:
        return False  # it takes columns by position, a graph takes them by name
    return isinstance(member, ExportableMember) and isinstance(member, Storable)
