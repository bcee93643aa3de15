"""Student's t distribution: its distribution function and its quantiles, for intervals and paired tests.

P(T <= -|t|) = I_x(v / 2, 1 / 2) / 2 with x = v / (v + t^2), where I is the regularised incomplete beta
function, by its continued fraction. From `MANY` degrees of freedom on, t is turned into a
normal deviate (Hill 1970, Algorithm 395), since the fraction needs about sqrt(v) steps. Relative errors are
below 1e-10.
"""

from __future__ import annotations

import math

from conjoin.errors import InputError
from conjoin.scores.beta import fraction

MANY = 5000.0


def student_cdf(t: float, freedom: float) -> float:
    """P(T <= t) with so many degrees of freedom, a number above 0; NaN gives NaN. Raises InputError.

    >>> round(student_cdf(1.0, 1.0), 12)
    0.75
    """
    if not freedom > 0:
        raise InputError(f"degrees of freedom must be above 0, not {freedom}")
    if math.isnan(t):
        return math.nan
    tail = 0.0 if math.isinf(t) else _lower_tail(abs(t), freedom)
    return tail if t < 0 else 1.0 - tail


def student_quantile(share: float, freedom: float) -> float:
    """The t with P(T <= t) = share, which lies in [0, 1]. Raises InputError.

    >>> round(student_quantile(0.975, 10.0), 6)
    2.228139
    """
    if not freedom > 0 or not 0 <= share <= 1:
        raise InputError(
            f"a quantile needs a share in [0, 1] and degrees of freedom above 0, not {share} and {freedom}"
        )
    tail = min(share, 1.0 - share)
    if tail == 0:
        return math.copysign(math.inf, share - 0.5)
    return math.copysign(_deviate(tail, freedom), share - 0.5) if tail < 0.5 else 0.0


def _deviate(tail: float, freedom: float) -> float:
    """The t > 0 with P(T <= -t) = tail: Newton steps on the logarithm of the tail, kept in a bracket."""
    low, high = 0.0, 1.0
    while _lower_tail(high, freedom) > tail:
        low, high = high, 2 * high
        if math.isinf(high):
            return high
    t = (low + high) / 2
    for _ in range(200):
        found = _lower_tail(t, freedom)
        low, high = (t, high) if found > tail else (low, t)
        slope = _density(t, freedom)
        step = found * math.log(found / tail) / slope if found > 0 and slope > 0 else math.inf
        new = t + step if low < t + step < high else (low + high) / 2
        if abs(new - t) <= 1e-14 * t:
            return new
        t = new
    return t


def _lower_tail(t: float, freedom: float) -> float:
    """P(T <= -t) for t >= 0."""
    if freedom > MANY:
        return math.erfc(_normal_deviate(t, freedom) / math.sqrt(2.0)) / 2
    a, ratio = freedom / 2, t * t / freedom
    if math.isinf(ratio):
        return 0.0
    x, rest = 1.0 / (1.0 + ratio), ratio / (1.0 + ratio)
    if rest == 0:
        return 0.5
    front = math.exp(
        math.lgamma(a + 0.5)
        - math.lgamma(a)
        - math.lgamma(0.5)
        - a * math.log1p(ratio)
        + 0.5 * math.log(rest)
    )
    if x < (a + 1) / (a + 2.5):
        return front * fraction(a, 0.5, x) / a / 2
    return 0.5 - front * fraction(0.5, a, rest)


def _normal_deviate(t: float, freedom: float) -> float:
    """The normal deviate with nearly the same tail."""
    a = freedom - 0.5
    b = 48 * a * a
    z = math.sqrt(a * math.log1p(t * t / freedom))
    more = ((4 * z**6 + 33 * z**4 + 240 * z**2 + 855) / (10 * b)) if z < 1e3 else 0.0
    return z * (1.0 + (z * z + 3 - more) / b)


def _density(t: float, freedom: float) -> float:
    spread = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - 0.5 * math.log(freedom * math.pi)
    return math.exp(spread - (freedom + 1) / 2 * math.log1p(t * t / freedom))
