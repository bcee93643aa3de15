"""Merging of weights: `METHODS` by name, and `merge_tensors`. Formulas know named arrays only, no files, no
torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import InputError, listed, nearest
from conjoin.transfer.weights.method import Given, Method, Parameter, Rescale, checked

if TYPE_CHECKING:
    from conjoin.outputs import Array


class _Room:
    """A module of formulas that is loaded when one of them is called: a plan needs no compiled loops."""

    def __init__(self, module: str) -> None:
        self._module = f"{__name__}.{module}"

    def __getattr__(self, name: str) -> Callable[[Given], None]:
        def merge(given: Given) -> None:
            getattr(import_module(self._module), name)(given)

        return merge


_changes, _linear, _matrices, _sphere = map(_Room, ("changes", "linear", "matrices", "sphere"))
_WEIGHT = Parameter(float, per_model=True)
_RELATIVE = Parameter(float, 1.0, per_model=True, low=0)
_FLAG = Parameter(bool, False)
_DENSITY = Parameter(float, 1.0, per_model=True, low=0, high=1)


def _tasks(
    mask: str, *, elect: bool, normalize: bool, rescale: str, rows: bool = False, **more: Parameter
) -> dict[str, Any]:
    """Merge function and parameters of a method on thinned task vectors."""
    parameters = {
        "weight": _WEIGHT,
        "density": _DENSITY,
        "normalize": Parameter(bool, normalize),
        "rescale": Parameter(Rescale, Rescale(rescale)),
        "lambda": Parameter(float, 1.0),
        "int8_mask": _FLAG,
        **more,
    }

    def merge(given: Given) -> None:
        sparse = import_module(f"{__name__}.sparse")
        sparse.Thinning(getattr(sparse, mask), elect, rows)(given)

    return {"merge": merge, "base": "required", "parameters": parameters}


def _as_matrices(name: str, merge: Any, paper: str, *, scale: float = 1.0, **more: Parameter) -> Method:
    """A method of matrices.py: weights count relative to each other, and may be left out."""
    parameters = {
        "weight": _RELATIVE,
        "lambda": Parameter(float, scale),
        **more,
    }
    return Method(name, merge, "required", parameters, paper=paper)


_GAMMA = Parameter(float, 0.01, per_model=True, low=0, high=1)
_EPSILON = Parameter(float, 0.15, per_model=True, low=0, high=1)
_SMALL = Parameter(float, 1e-5, low=0)
TIES, DARE = "Yadav et al. 2023, arXiv 2306.01708", "Yu et al. 2024, arXiv 2311.03099"
BREADCRUMBS, DELLA = "Davari and Belilovsky 2023, arXiv 2312.06795", "Deep et al. 2024, arXiv 2406.11617"

METHODS: dict[str, Method] = {
    m.name: m
    for m in (
        Method(
            "linear",
            _linear.linear,
            "none",
            {"weight": _WEIGHT, "normalize": Parameter(bool, True)},
            paper="Wortsman et al. 2022, arXiv 2203.05482",
            elementwise=True,
        ),
        Method(
            "uniform_soup",
            _linear.linear,
            "none",
            {"weight": _RELATIVE, "normalize": Parameter(bool, True)},
            paper="Wortsman et al. 2022, arXiv 2203.05482",
            elementwise=True,
        ),
        Method(
            "slerp",
            _sphere.slerp,
            "required",
            {"t": Parameter(float, low=0, high=1)},
            1,
            1,
            paper="Shoemake 1985",
        ),
        Method(
            "nuslerp",
            _sphere.nuslerp,
            "optional",
            {"weight": _WEIGHT, "nuslerp_row_wise": _FLAG, "nuslerp_flatten": Parameter(bool, True)},
            2,
            2,
        ),
        Method(
            "multislerp",
            _sphere.multislerp,
            "optional",
            {
                "weight": _WEIGHT,
                "normalize_weights": Parameter(bool, True),
                "eps": Parameter(float, 1e-8, low=0),
            },
        ),
        Method(
            "karcher",
            _sphere.karcher,
            "none",
            {"max_iter": Parameter(int, 10, low=0), "tol": _SMALL},
            paper="Karcher 1977; arXiv 2603.04972",
        ),
        Method(
            "passthrough",
            _linear.passthrough,
            "none",
            {"scale": Parameter(float, None, per_model=True, optional=True)},
            1,
            1,
            elementwise=True,
        ),
        Method(
            "task_arithmetic",
            _linear.task_arithmetic,
            "required",
            {
                "weight": _WEIGHT,
                "lambda": Parameter(float, 1.0),
                "normalize": _FLAG,
                "density": _DENSITY,
                "int8_mask": _FLAG,
                "rescale": Parameter(Rescale, Rescale("false")),
            },
            paper="Ilharco et al. 2023, arXiv 2212.04089",
            elementwise=True,
        ),
        Method("ties", **_tasks("largest", elect=True, normalize=True, rescale="false"), paper=TIES),
        Method(
            "dare_ties",
            **_tasks("drawn", elect=True, normalize=False, rescale="true"),
            random=True,
            paper=DARE,
        ),
        Method(
            "dare_linear",
            **_tasks("drawn", elect=False, normalize=False, rescale="true"),
            random=True,
            paper=DARE,
        ),
        Method(
            "breadcrumbs",
            **_tasks("inliers", elect=False, normalize=False, rescale="false", gamma=_GAMMA),
            paper=BREADCRUMBS,
        ),
        Method(
            "breadcrumbs_ties",
            **_tasks("inliers", elect=True, normalize=False, rescale="false", gamma=_GAMMA),
            paper=BREADCRUMBS,
        ),
        Method(
            "della",
            **_tasks(
                "drawn_by_rank", elect=True, rows=True, normalize=True, rescale="true", epsilon=_EPSILON
            ),
            random=True,
            paper=DELLA,
        ),
        Method(
            "della_linear",
            **_tasks(
                "drawn_by_rank", elect=False, rows=True, normalize=False, rescale="true", epsilon=_EPSILON
            ),
            random=True,
            paper=DELLA,
        ),
        Method(
            "model_stock",
            _sphere.model_stock,
            "required",
            {"filter_wise": _FLAG},
            2,
            paper="Jang et al. 2024, arXiv 2403.19522",
        ),
        Method(
            "nearswap", _linear.nearswap, "required", {"t": Parameter(float, low=0)}, 1, 1, elementwise=True
        ),
        Method(
            "sce",
            _changes.sce,
            "required",
            {"select_topk": Parameter(float, 1.0, low=0, high=1), "int8_mask": _FLAG},
            paper="Wan et al. 2024, arXiv 2408.07990",
        ),
        Method("arcee_fusion", _changes.arcee_fusion, "required", {}, 1, 1),
        Method("ram", _changes.ram, "required", {"epsilon": _SMALL}, paper="arXiv 2601.13572"),
        Method(
            "ramplus_tl",
            _changes.ramplus_tl,
            "required",
            {"r": Parameter(float, 0.1), "alpha": Parameter(float, 0.2, low=0), "epsilon": _SMALL},
            paper="arXiv 2601.13572",
        ),
        _as_matrices("iso_c", _matrices.iso_c, "Marczak et al. 2025, arXiv 2502.04959"),
        _as_matrices(
            "iso_cts",
            _matrices.iso_cts,
            "Marczak et al. 2025, arXiv 2502.04959",
            common=Parameter(float, 0.8, low=0, high=1),
        ),
        _as_matrices("tsv_m", _matrices.tsv_m, "Gargiulo et al. 2024, arXiv 2412.00081"),
        _as_matrices(
            "wudi", _matrices.wudi, "Cheng et al. 2025, arXiv 2503.08099", pull=Parameter(float, 0.2, low=0)
        ),
        _as_matrices(
            "consensus",
            _matrices.consensus,
            "Wang et al. 2024, arXiv 2405.07813",
            scale=0.3,
            threshold=Parameter(float, 0.4, low=0),
            agree=Parameter(int, 2, low=1),
        ),
    )
}
"""Every method that works tensor by tensor and without data, by the name that recipes use."""


def _unmerged(given: Given) -> None:
    raise InputError(f"{given.name}: this method needs more than weights; call conjoin.merge")


_ALPHA = {"weight": _RELATIVE, "alpha": Parameter(float, 0.9, low=0, high=1)}
NEEDING: dict[str, tuple[Method, str]] = {
    m.name: (m, what)
    for m, what in (
        (
            Method(
                "fisher",
                _unmerged,
                "none",
                {
                    "weight": _RELATIVE,
                    "floor": Parameter(float, 1e-6, low=0),
                    "normalize": Parameter(bool, True),
                },
                paper="Matena and Raffel 2022, arXiv 2111.09832",
            ),
            "data",
        ),
        (Method("regmean", _unmerged, "none", _ALPHA, paper="Jin et al. 2022, arXiv 2212.09849"), "data"),
        (
            Method("regmean++", _unmerged, "none", _ALPHA, paper="Nguyen et al. 2025, arXiv 2508.03121"),
            "data",
        ),
        (
            Method(
                "adamerging",
                _unmerged,
                "required",
                {
                    "layer_wise": Parameter(bool, True),
                    "steps": Parameter(int, 500, low=0),
                    "rate": Parameter(float, 1e-3, low=0),
                    "start": Parameter(float, 0.3, low=0, high=1),
                },
                paper="Yang et al. 2023, arXiv 2310.02575",
            ),
            "data",
        ),
        (
            Method("greedy_soup", _unmerged, "none", {}, paper="Wortsman et al. 2022, arXiv 2203.05482"),
            "score",
        ),
    )
}
"""Methods that need more than weights, and the argument of conjoin.merge that brings it."""


def method_of(name: str) -> Method:
    """The method of this name. Raises InputError with the nearest name.

    >>> method_of("ties").base
    'required'
    """
    if name in NEEDING:
        wanted = NEEDING[name][1]
        raise InputError(
            f"{name} needs {'data' if wanted == 'data' else 'a score'}, which a recipe does not hold; call "
            f"conjoin.merge(models, {name!r}, {wanted}=...) in Python"
        )
    if name not in METHODS:
        known = [*METHODS, *NEEDING]
        raise InputError(f"no merging method {name!r}{nearest(name, known)}; there are {listed(known, 40)}")
    return METHODS[name]


def merge_tensors(
    tensors: Sequence[Array],
    method: str,
    *,
    base: Array | None = None,
    parameters: Mapping[str, Any] | None = None,
    name: str = "tensor",
    seed: int = 0,
    out: Array | None = None,
) -> Array:
    """Tensors of one shape and type become one.

    tensors: of the models, without the base; float32, float64, or bfloat16 bits as uint16. parameters: by
    name; those of the models as one value for all, or as a sequence. name: of the tensor: random methods
    draw by it and by the seed. out: where to write; of the inputs' type by default. Raises InputError.

    >>> merge_tensors([np.ones(2), np.zeros(2)], "linear", parameters={"weight": [3, 1]})
    array([0.75, 0.75])
    """
    found = method_of(method)
    found.check_models(len(tensors), base=base is not None)
    found.check_names(parameters or {})
    arrays = [np.asarray(t, order="C") for t in ([] if base is None else [base]) + list(tensors)]
    if len({(a.shape, a.dtype) for a in arrays}) > 1:
        raise InputError(f"{name}: shapes and types differ: {listed(f'{a.shape} {a.dtype}' for a in arrays)}")
    if arrays[0].dtype not in (np.uint16, np.float32, np.float64):
        raise InputError(f"{name}: weights must be float32, float64 or bfloat16 bits, not {arrays[0].dtype}")
    shared, each = resolved(found, parameters or {}, len(tensors))
    answer = np.empty_like(arrays[0]) if out is None else out
    rest = arrays if base is None else arrays[1:]
    given = Given(name, tuple(rest), None if base is None else arrays[0], shared, each, seed, answer)
    if answer.size:
        found.merge(given)
    return answer


def resolved(
    method: Method, parameters: Mapping[str, Any], count: int
) -> tuple[dict[str, Any], dict[str, tuple[Any, ...]]]:
    """Parameters checked and complete: those of the tensor, and those of the models (count,)."""
    shared: dict[str, Any] = {}
    each: dict[str, tuple[Any, ...]] = {}
    for name, spec in method.parameters.items():
        value = parameters.get(name)
        if not spec.per_model:
            shared[name] = checked(method, name, value)
            continue
        values = (
            list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value] * count
        )
        if len(values) != count:
            raise InputError(f"{method.name}: {len(values)} values of {name!r} for {count} models")
        each[name] = tuple(checked(method, name, v) for v in values)
    return shared, each


__all__ = [
    "METHODS",
    "NEEDING",
    "Given",
    "Method",
    "Parameter",
    "checked",
    "merge_tensors",
    "method_of",
    "resolved",
]
