"""Masks beside SimpleITK: raters of known skill mark an ellipsoid, with noise in every voxel."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813  (its own name for it)

from conjoin.fusion.masks import label_vote, multilabel_staple, performance, staple
from conjoin.outputs import Masks

PEER = "SimpleITK 2.5.7"
REPEATS = 3


def raters(shape: tuple[int, ...], members: int, labels: int, seed: int = 0) -> list[np.ndarray[Any, Any]]:
    """Masks of shells inside an ellipsoid, by members who are right at 80 to 97 % of the voxels."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*[np.linspace(-1, 1, s) for s in shape], indexing="ij")
    away = sum(a * a for a in axes)
    truth = np.clip(labels - 1 - np.floor(away / 0.4 * (labels - 1)), 0, labels - 1).astype(np.uint8)
    out = []
    for _ in range(members):
        right = rng.random(shape, dtype=np.float32) < rng.uniform(0.8, 0.97)
        other = (truth + rng.integers(1, labels, shape, dtype=np.uint8)) % labels
        out.append(np.where(right, truth, other).astype(np.uint8))
    return out


def interleaved(mine: Callable[[], Any], theirs: Callable[[], Any]) -> tuple[float, float, Any, Any]:
    """Least CPU seconds of each over the repeats, and their answers; ours is called once before."""
    mine()
    times: tuple[list[float], list[float]] = ([], [])
    answers: list[Any] = [None, None]
    for _ in range(REPEATS):
        for k, call in enumerate((mine, theirs)):
            begin = time.process_time()
            answers[k] = call()
            times[k].append(time.process_time() - begin)
    return min(times[0]), min(times[1]), *answers


def row(operator: str, workload: str, measured: tuple[float, float], same: str, asked: str) -> dict[str, Any]:
    """A line of the table."""
    mine, theirs = measured
    return {
        "operator": operator,
        "workload": workload,
        "peer": PEER,
        "conjoin_cpu": mine,
        "peer_cpu": theirs,
        "ratio": theirs / mine,
        "same": same,
        "asked": asked,
    }


def staple_row(shape: tuple[int, ...], members: int, asked: str) -> dict[str, Any]:
    """STAPLE, to the end of its iterations."""
    images = raters(shape, members, 2)
    outputs = {f"r{k:02}": Masks(i[None]) for k, i in enumerate(images)}
    volumes = [sitk.GetImageFromArray(i) for i in images]
    its = sitk.STAPLEImageFilter()
    its.SetForegroundValue(1)
    its.SetNumberOfThreads(1)
    mine, theirs, fused, image = interleaved(lambda: staple(outputs), lambda: its.Execute(volumes))
    apart = float(np.abs(fused.values[0] - sitk.GetArrayFromImage(image)).max())
    skill = performance(outputs)
    skills = np.abs(skill.sensitivity[0] - its.GetSensitivity()).max()
    same = f"probabilities within {apart:.0e}, sensitivities within {skills:.0e}"
    told = f"{members} x {'x'.join(map(str, shape))}, {its.GetElapsedIterations() + 1} rounds"
    return row("staple", told, (mine, theirs), same, asked)


def labels_rows(shape: tuple[int, ...], members: int, labels: int) -> list[dict[str, Any]]:
    """Label voting and multi-label STAPLE."""
    images = raters(shape, members, labels)
    outputs = {f"r{k}": Masks(i[None]) for k, i in enumerate(images)}
    volumes = [sitk.GetImageFromArray(i) for i in images]
    told = f"{members} x {'x'.join(map(str, shape))}, {labels} labels"
    rows = []
    voting, many = sitk.LabelVotingImageFilter(), sitk.MultiLabelSTAPLEImageFilter()
    for name, fuser, its in (
        ("label_vote", label_vote, voting),
        ("multilabel_staple", multilabel_staple, many),
    ):
        its.SetNumberOfThreads(1)
        mine, theirs, fused, image = interleaved(
            lambda fuser=fuser: fuser(outputs, label_for_undecided_pixels=labels),
            lambda its=its: its.Execute(volumes),
        )
        differ = int((fused.values[0] != sitk.GetArrayFromImage(image)).sum())
        rows.append(row(name, told, (mine, theirs), f"{differ} voxels differ", ""))
    return rows


def run() -> list[dict[str, Any]]:
    """Every line of the table."""
    return [
        staple_row((64, 256, 256), 5, "30"),
        staple_row((32, 128, 128), 20, ""),
        *labels_rows((32, 128, 128), 5, 4),
    ]
