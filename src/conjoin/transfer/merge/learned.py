"""What merging learns from data, by torch: Gram matrices, Fisher information, coefficients, statistics.

Batches: an array or tensor is inputs, a mapping is arguments of the module by name, a tuple (inputs, labels);
anything else is an iterable of these. `forward(module, batch, name)` is how the model of this name answers a
batch with logits (n, ..., classes): for models with heads of their own, or answers that are records.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import InputError, listed, need
from conjoin.transfer.weights.regmean import regmean

if TYPE_CHECKING:
    from conjoin.outputs import Array

Forward = Callable[[Any, Any, str], Any]
ROWS = 64
"""Rows of a batch where arrays are given whole."""


def plainly(module: Any, batch: Any, name: str) -> Any:
    """The answer of a module to a batch: module(batch), or module(**batch) of a mapping."""
    return module(**batch) if isinstance(batch, Mapping) else module(batch)


def batches_of(data: Any, device: Any = "cpu") -> Iterator[tuple[Any, Any]]:
    """(inputs, labels or None), batch after batch, as tensors on a device."""
    torch = need("torch")
    if isinstance(data, str | bytes) or data is None:
        raise InputError(f"data must be arrays or batches, not {type(data).__name__}")
    whole = isinstance(data, np.ndarray | torch.Tensor | Mapping | tuple)
    for one in _split(data) if whole else data:
        inputs, labels = one if isinstance(one, tuple | list) and len(one) == 2 else (one, None)
        if isinstance(inputs, Mapping):
            inputs = {k: torch.as_tensor(v, device=device) for k, v in inputs.items()}
        else:
            inputs = torch.as_tensor(inputs, device=device)
        yield inputs, None if labels is None else torch.as_tensor(labels, device=device)


def _split(data: Any) -> Iterator[Any]:
    parts = data if isinstance(data, tuple) else (data,)
    if len(parts) > 2:
        raise InputError(f"a tuple of data is (inputs, labels), not {len(parts)} things")
    columns = [c for p in parts for c in (p.values() if isinstance(p, Mapping) else [p])]
    if len({len(c) for c in columns}) > 1:
        raise InputError(
            f"inputs and labels have different numbers of rows: {listed(len(c) for c in columns)}"
        )
    for start in range(0, len(columns[0]), ROWS):
        block = slice(start, start + ROWS)
        cut = [{k: v[block] for k, v in p.items()} if isinstance(p, Mapping) else p[block] for p in parts]
        yield tuple(cut) if len(cut) == 2 else cut[0]


def grams_of(
    module: Any, data: Any, *, name: str = "", forward: Forward = plainly, only: str | None = None
) -> dict[str, Array]:
    """What RegMean needs to know of a module's inputs: by name of weight.

    Linear and convolution layers (one group): sum over rows x^T x, float64 (in, in), with a last row and
    column for the bias where there is one. Embeddings: how often each row was asked for, (rows,). Layers
    that were never called are left out. only: the one weight that is wanted.
    """
    torch = need("torch")
    found: dict[str, Any] = {}
    hooks = []
    for layer, part in module.named_modules():
        key = f"{layer}.weight" if layer else "weight"
        if only is None or key == only:
            rows = _rows_of(torch, part)
            if rows is not None:
                hooks.append(part.register_forward_pre_hook(_collect(torch, found, key, part, rows)))
    try:
        with torch.no_grad(), _evaluating(module):
            for inputs, _ in batches_of(data, _device(module)):
                forward(module, inputs, name)
    finally:
        for hook in hooks:
            hook.remove()
    return {k: v.cpu().numpy() for k, v in found.items()}


def _rows_of(torch: Any, part: Any) -> Callable[[Any], Any] | None:
    """How a layer's input becomes rows (n, in); None for layers that RegMean does not know."""
    nn = torch.nn
    if isinstance(part, nn.Linear):
        return lambda x: x.reshape(-1, x.shape[-1])
    if isinstance(part, nn.Conv1d | nn.Conv2d) and part.groups == 1 and part.padding_mode == "zeros":
        return lambda x: _patches(torch, part, x)
    if isinstance(part, nn.Embedding):
        return lambda x: x.reshape(-1)
    return None


def _patches(torch: Any, part: Any, x: Any) -> Any:
    """The patches that a convolution looks at, (n, in times kernel)."""
    two = len(part.kernel_size) == 2
    x = x if x.dim() == len(part.kernel_size) + 2 else x[None]
    x = x if two else x[:, :, None]

    def pair(sizes: Any, first: int) -> Any:
        return tuple(sizes) if two else (first, *sizes)

    if isinstance(part.padding, str):
        wide = [
            d * (k - 1) if part.padding == "same" else 0
            for d, k in zip(part.dilation, part.kernel_size, strict=True)
        ]
        ends = [e for w in reversed(wide) for e in (w // 2, w - w // 2)]
        x, padding = torch.nn.functional.pad(x, ends), (0, 0)
    else:
        padding = pair(part.padding, 0)
    cut = torch.nn.functional.unfold(
        x, pair(part.kernel_size, 1), pair(part.dilation, 1), padding, pair(part.stride, 1)
    )
    return cut.transpose(1, 2).reshape(-1, cut.shape[1])


def _collect(torch: Any, found: dict[str, Any], key: str, part: Any, rows: Callable[[Any], Any]) -> Any:
    def hook(_: Any, inputs: Any) -> None:
        if not inputs:
            return
        x = rows(inputs[0].detach())
        if x.is_floating_point():
            x = x.double()
            if part.bias is not None:
                x = torch.cat([x, x.new_ones(len(x), 1)], dim=1)
            add = x.T @ x
        else:
            add = torch.bincount(x, minlength=part.num_embeddings).double()
        found[key] = found[key] + add if key in found else add

    return hook


def fishers_of(
    module: Any, data: Any, *, name: str = "", forward: Forward = plainly, seed: int = 0
) -> dict[str, Array]:
    """The diagonal of the Fisher information of each parameter, float64, by name.

    The mean over examples of the squared gradient of log p(y | x). Labels: whole numbers are classes, floats
    are targets of a regression with unit variance; without labels classes are drawn from what the model
    answers, which is the true Fisher information (Kunstner et al. 2019, arXiv 1905.12558).
    """
    torch = need("torch")
    draws = torch.Generator().manual_seed(seed)
    parameters = dict(module.named_parameters())
    sums = {n: torch.zeros(p.shape, dtype=torch.float64) for n, p in parameters.items()}
    count = 0
    with _evaluating(module), torch.enable_grad():
        for inputs, labels in batches_of(data, _device(module)):
            for row in range(_length(inputs)):
                one = slice(row, row + 1)
                cut = {k: v[one] for k, v in inputs.items()} if isinstance(inputs, Mapping) else inputs[one]
                logits = forward(module, cut, name)
                loss = _surprise(torch, logits, None if labels is None else labels[one], draws)
                grads = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
                for key, grad in zip(parameters, grads, strict=True):
                    if grad is not None:
                        sums[key] += grad.detach().cpu().double() ** 2
                count += 1
    if not count:
        raise InputError(f"the data of {name or 'the model'} hold no example")
    return {n: (s / count).numpy() for n, s in sums.items()}


def _surprise(torch: Any, logits: Any, labels: Any, draws: Any) -> Any:
    """-log p(labels)."""
    if labels is not None and labels.is_floating_point():
        return 0.5 * ((logits.reshape(labels.shape) - labels) ** 2).sum()
    flat = logits.reshape(-1, logits.shape[-1])
    if labels is None:
        chances = flat.detach().softmax(-1).cpu().double()
        labels = torch.multinomial(chances, 1, generator=draws).to(flat.device)
    return torch.nn.functional.cross_entropy(flat, labels.reshape(-1).long(), reduction="sum")


def regmean_plus(
    module: Any,
    names: Sequence[str],
    states: Sequence[Mapping[str, Array]],
    data: Mapping[str, Any],
    *,
    forward: Forward = plainly,
    weights: Sequence[float] | None = None,
    alpha: float = 0.9,
) -> None:
    """RegMean layer after layer, with the inputs that the merged layers before make (Nguyen et al. 2025).

    module: holds the plain average, and afterwards the answer. names: of the models. states: their arrays by
    name (float64).
    """
    torch = need("torch")
    for key in _order(module, data[names[0]], names[0], forward):
        told = [grams_of(module, data[n], name=n, forward=forward, only=key) for n in names]
        if not all(key in t for t in told):
            continue
        grams = [t[key] for t in told]
        found = regmean_layer(key, states, grams, weights=weights, alpha=alpha)
        own = module.state_dict()
        with torch.no_grad():
            for name, value in found.items():
                own[name].copy_(torch.from_numpy(value))


def regmean_layer(
    key: str,
    states: Sequence[Mapping[str, Array]],
    grams: Sequence[Array],
    *,
    weights: Sequence[float] | None = None,
    alpha: float = 0.9,
) -> dict[str, Array]:
    """Weight and, where the Gram matrices have a column for it, bias of one layer, by name (float64)."""
    given = [s[key] for s in states]
    shape = given[0].shape
    if np.ndim(grams[0]) == 1:
        # each row is a layer of its own, whose only input was 1 so many times
        wanted = [np.asarray(g, np.float64)[:, None] for g in grams]
        shares = np.ones(len(given)) if weights is None else np.asarray(weights, np.float64)
        total = sum(s * g for s, g in zip(shares, wanted, strict=True))
        mean = sum(s * w for s, w in zip(shares, given, strict=True)) / shares.sum()
        above = sum(s * g * w for s, g, w in zip(shares, wanted, given, strict=True))
        return {key: np.where(total > 0, above / np.where(total > 0, total, 1), mean)}
    matrices = [w.reshape(shape[0], -1) for w in given]
    bias = key.removesuffix("weight") + "bias"
    columns = matrices[0].shape[1]
    if len(grams[0]) == columns + 1 and bias in states[0]:
        matrices = [np.column_stack([m, s[bias]]) for m, s in zip(matrices, states, strict=True)]
        found = regmean(matrices, grams, weights=weights, alpha=alpha)
        return {key: found[:, :-1].reshape(shape), bias: found[:, -1]}
    return {key: regmean(matrices, grams, weights=weights, alpha=alpha).reshape(shape)}


def _order(module: Any, data: Any, name: str, forward: Forward) -> list[str]:
    """Names of weights in the order in which their layers are called first."""
    torch = need("torch")
    called: dict[str, None] = {}
    hooks = [
        part.register_forward_pre_hook(
            lambda _, __, k=f"{layer}.weight" if layer else "weight": called.setdefault(k)
        )
        for layer, part in module.named_modules()
        if _rows_of(torch, part) is not None
    ]
    try:
        with torch.no_grad(), _evaluating(module):
            for inputs, _ in batches_of(data, _device(module)):
                forward(module, inputs, name)
                break
    finally:
        for hook in hooks:
            hook.remove()
    return list(called)


def adamerging(
    module: Any,
    base: Mapping[str, Any],
    deltas: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    data: Mapping[str, Any],
    *,
    forward: Forward = plainly,
    layer_wise: bool = True,
    steps: int = 500,
    rate: float = 1e-3,
    start: float = 0.3,
) -> Array:
    """Coefficients lambda (T, tensors), or (T, 1), that make the merged model sure of what it answers (Yang
    et al. 2023).

    Minimises the entropy of what theta_0 + sum_i lambda_i d_i answers, summed over the tasks, on unlabelled
    data, by Adam; lambdas stay within 0 to 1. module: is called with the merged weights. base, deltas: its
    parameters by name.

    Entropy falls, too, where logits merely grow. Models whose logits are bounded (CLIP) do not let it; for
    others judge the answer on held-out data, and take fewer steps.
    """
    torch = need("torch")
    keys = list(base)
    lambdas = torch.full((len(deltas), len(keys) if layer_wise else 1), start, requires_grad=True)
    adam = torch.optim.Adam([lambdas], lr=rate, betas=(0.9, 0.999))
    sources = [_forever(torch, data[n], _device(module), n) for n in names]
    with _evaluating(module), torch.enable_grad():
        for _ in range(steps):
            bounded = lambdas.clamp(0, 1)
            merged = {
                k: base[k]
                + sum(bounded[i, j if layer_wise else 0].to(base[k]) * d[k] for i, d in enumerate(deltas))
                for j, k in enumerate(keys)
            }
            called = _Called(module, merged)
            loss = sum(_entropy(forward(called, next(s), n)) for s, n in zip(sources, names, strict=True))
            adam.zero_grad()
            loss.backward()
            adam.step()
    found = lambdas.detach().clamp(0, 1).numpy().astype(np.float64)
    if not np.isfinite(found).all():
        raise InputError("AdaMerging found no finite coefficients; use a smaller rate, or look at the data")
    return np.asarray(found)


class _Called:
    """A module with other parameters, to be called like it."""

    def __init__(self, module: Any, parameters: Mapping[str, Any]) -> None:
        self.module, self.parameters = module, parameters

    def __call__(self, *args: Any, **named: Any) -> Any:
        return need("torch.func").functional_call(self.module, dict(self.parameters), args, named)


def _entropy(logits: Any) -> Any:
    logs = logits.reshape(-1, logits.shape[-1]).log_softmax(-1)
    return -(logs.exp() * logs).sum(-1).mean()


def _forever(torch: Any, data: Any, device: Any, name: str) -> Iterator[Any]:
    kept = data if isinstance(data, np.ndarray | torch.Tensor | Mapping | tuple) else list(data)
    while True:
        empty = True
        for inputs, _ in batches_of(kept, device):
            empty = False
            yield inputs
        if empty:
            raise InputError(f"the data of {name} hold no example")


def re_estimate(module: Any, data: Mapping[str, Any], *, forward: Forward = plainly) -> None:
    """Running mean and variance of batch normalisation, counted anew on all data (Izmailov et al. 2018, arXiv
    1803.05407): averages of the models' own do not fit the merged activations.
    """
    torch = need("torch")
    norms = [m for m in module.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    norms = [m for m in norms if m.running_mean is not None]
    if not norms:
        return
    kept = [m.momentum for m in norms]
    with torch.no_grad(), _evaluating(module):
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
            norm.train()
        for name, one in data.items():
            for inputs, _ in batches_of(one, _device(module)):
                if _length(inputs) > 1:
                    forward(module, inputs, name)
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum


@contextlib.contextmanager
def _evaluating(module: Any) -> Iterator[None]:
    """Modules answer, and then are as they were."""
    was = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in was:
            part.training = training


def _device(module: Any) -> Any:
    return next((p.device for p in module.parameters()), "cpu")


def _length(inputs: Any) -> int:
    return len(next(iter(inputs.values()))) if isinstance(inputs, Mapping) else len(inputs)
