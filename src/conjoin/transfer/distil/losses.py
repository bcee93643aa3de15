"""What a student loses by not being like its teacher: on logits, on features, on relations between rows.

Functions of torch tensors; each answers a scalar that can be differentiated. n rows, K classes, d features.
Logits of a teacher without gradients: the caller detaches them. Terms of a mixed loss are chosen by name from
`LOGIT_LOSSES` and `FEATURE_LOSSES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from conjoin.errors import need

Tensor = Any
EPS = 1e-7


def kd(student: Tensor, teacher: Tensor, labels: Tensor | None = None, *, temperature: float = 4.0) -> Tensor:
    """T^2 KL(softmax(teacher / T), softmax(student / T)), mean over rows.

    student, teacher: (n, K) logits. As T grows it becomes matching of centred logits.
    Hinton, Vinyals and Dean 2015, arXiv 1503.02531.
    """
    f = need("torch.nn.functional")
    wanted, said = teacher / temperature, student / temperature
    return temperature**2 * f.kl_div(
        f.log_softmax(said, -1), f.log_softmax(wanted, -1), reduction="batchmean", log_target=True
    )


def kd_standardised(
    student: Tensor, teacher: Tensor, labels: Tensor | None = None, *, temperature: float = 2.0
) -> Tensor:
    """`kd` of logits that were standardised row by row: (x - mean) / (std + 1e-7).

    A student need not reach the scale of its teacher's logits. (n, K). Sun et al. 2024, arXiv 2403.01427.
    """
    return kd(standardised(student), standardised(teacher), temperature=temperature)


def standardised(logits: Tensor) -> Tensor:
    """Each row of (n, K) less its mean, over its standard deviation."""
    return (logits - logits.mean(-1, keepdim=True)) / (logits.std(-1, keepdim=True, correction=0) + EPS)


def mse(
    student: Tensor, teacher: Tensor, labels: Tensor | None = None, *, temperature: float = 1.0
) -> Tensor:
    """Mean squared difference of logits or values, (n, K) or (n,). temperature: of no effect here."""
    return ((student - teacher) ** 2).mean()


def dkd(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor | None = None,
    *,
    temperature: float = 4.0,
    alpha: float = 1.0,
    beta: float = 8.0,
) -> Tensor:
    """Decoupled: alpha KL over (true class, all others) + beta KL among the other classes, times T^2.

    student, teacher: (n, K) logits; labels: (n,) numbers of the true classes; None takes what the teacher
    says. With two classes there are no others to tell apart, and the second part is 0.
    Zhao et al. 2022, arXiv 2203.08679.
    """
    torch, f = need("torch"), need("torch.nn.functional")
    true = teacher.argmax(-1) if labels is None else labels
    said, wanted = f.log_softmax(student / temperature, -1), f.log_softmax(teacher / temperature, -1)
    own = f.one_hot(true, student.shape[-1]).bool()
    parts = []
    for log in (said, wanted):
        hit = log[own]
        rest = torch.logsumexp(log.masked_fill(own, -math.inf), -1)
        parts.append(torch.stack([hit, rest], -1))
    target = f.kl_div(parts[0], parts[1], reduction="batchmean", log_target=True)
    others = [f.log_softmax(x[~own].reshape(len(x), -1), -1) for x in (said, wanted)]
    among = f.kl_div(others[0], others[1], reduction="batchmean", log_target=True)
    return temperature**2 * (alpha * target + beta * among)


def dist(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor | None = None,
    *,
    temperature: float = 1.0,
    beta: float = 1.0,
    gamma: float = 1.0,
) -> Tensor:
    """T^2 (beta (1 - correlation within rows) + gamma (1 - correlation within classes)), means.

    Pearson correlations of softmax(logits / T), (n, K): over classes for each row, over rows for each class.
    Huang et al. 2022, arXiv 2205.10536.
    """
    f = need("torch.nn.functional")
    said, wanted = f.softmax(student / temperature, -1), f.softmax(teacher / temperature, -1)
    between = 1 - _pearson(said, wanted).mean()
    within = 1 - _pearson(said.T, wanted.T).mean() if len(said) > 1 else 0.0
    return temperature**2 * (beta * between + gamma * within)


def _pearson(a: Tensor, b: Tensor) -> Tensor:
    """Correlation of each row of a with that of b."""
    f = need("torch.nn.functional")
    return f.cosine_similarity(a - a.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True), -1, eps=1e-8)


def hidden(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of features of one shape (FitNets' hint; a projection comes before it).

    Romero et al. 2015, arXiv 1412.6550.
    """
    return ((student - teacher) ** 2).mean()


def attention(student: Tensor, teacher: Tensor, *, power: float = 2.0) -> Tensor:
    """Difference of spatial attention maps: q = sum over channels of |a|^p, scaled to length 1; mean of
    (q_s - q_t)^2.

    student, teacher: (n, channels, ...); places may differ in number and are then averaged to the smaller.
    Zagoruyko and Komodakis 2017, arXiv 1612.03928.
    """
    f = need("torch.nn.functional")
    maps = [x.abs().pow(power).mean(1) for x in (student, teacher)]
    if maps[0].shape != maps[1].shape:
        size = tuple(min(a, b) for a, b in zip(maps[0].shape[1:], maps[1].shape[1:], strict=True))
        shrink = {1: f.adaptive_avg_pool1d, 2: f.adaptive_avg_pool2d, 3: f.adaptive_avg_pool3d}[len(size)]
        maps = [shrink(m[:, None], size)[:, 0] for m in maps]
    q = [f.normalize(m.flatten(1), dim=1) for m in maps]
    return ((q[0] - q[1]) ** 2).mean()


def rkd(student: Tensor, teacher: Tensor, *, distance: float = 25.0, angle: float = 50.0) -> Tensor:
    """Relations of rows: Huber losses of pairwise distances (over their mean) and of angles of triplets.

    student, teacher: (n, ...), flattened to (n, d); widths may differ. Park et al. 2019, arXiv 1904.05068.
    """
    f = need("torch.nn.functional")
    a, b = student.flatten(1), teacher.flatten(1)
    if len(a) < 2:
        return a.sum() * 0
    total = distance * f.smooth_l1_loss(_distances(a), _distances(b))
    return total + angle * f.smooth_l1_loss(_angles(a), _angles(b))


def _distances(x: Tensor) -> Tensor:
    """(n, n) distances over the mean of those that are not 0."""
    torch = need("torch")
    squared = (x * x).sum(1)
    d = (squared[:, None] + squared[None] - 2 * x @ x.T).clamp(min=1e-12).sqrt()
    d = d * (1 - torch.eye(len(x), dtype=x.dtype, device=x.device))
    far = d > 1e-5
    return d / (d[far].mean() if bool(far.any()) else 1.0)


def _angles(x: Tensor) -> Tensor:
    """(n, n, n) cosines of the angle at each row between two others."""
    f = need("torch.nn.functional")
    toward = f.normalize(x[None] - x[:, None], dim=2)
    return toward @ toward.transpose(1, 2)


LOGIT_LOSSES: dict[str, Callable[..., Tensor]] = {
    "kd": kd,
    "kd_standardised": kd_standardised,
    "dkd": dkd,
    "dist": dist,
    "mse": mse,
}
"""Losses of what is answered: (student, teacher, labels, temperature=) -> scalar."""

FEATURE_LOSSES: dict[str, Callable[..., Tensor]] = {
    "hidden": hidden,
    "attention": attention,
    "rkd": rkd,
}
"""Losses of what a layer says: (student, teacher) -> scalar. `contrast.Contrast` is the one with a memory."""
