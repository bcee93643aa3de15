"""Fusers of masks: formulas by hand and by the peer's numbers, hostile input, laws beyond the common ones."""

import importlib.util
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from conjoin.errors import OutputsError, TruthError
from conjoin.fusion.applied import Applied
from conjoin.fusion.masks import (
    FUSERS,
    fit_label_vote,
    fit_mean_argmax,
    fit_naive_bayes,
    label_vote,
    mean,
    mean_argmax,
    multilabel_staple,
    naive_bayes,
    performance,
    shape_average,
    simple,
    staple,
)
from conjoin.fusion.masks.patterns import binary_patterns, label_patterns
from conjoin.kernels.masks import distance_to
from conjoin.outputs import Labels, Masks
from conjoin.scores import score_of

RATERS = [
    [1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 0],
    [1, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0],
    [1, 1, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0],
    [0, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 0],
]
LABELS = [
    [0, 0, 1, 1, 2, 2, 3, 3, 0, 1, 2, 3],
    [0, 0, 1, 2, 2, 2, 3, 3, 0, 1, 2, 2],
    [0, 1, 1, 1, 2, 3, 3, 3, 0, 1, 0, 3],
    [0, 2, 1, 1, 0, 2, 3, 1, 3, 1, 2, 3],
]


def world():
    path = Path(__file__).parent / "world.py"
    spec = importlib.util.spec_from_file_location("world_of_masks_here", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def masks(images, shape=(1, 3, 4), **more):
    return {f"r{k}": Masks(np.array(i, np.uint8).reshape(shape), **more) for k, i in enumerate(images)}


def slow_staple(images, rounds):
    """STAPLE pixel by pixel."""
    D = np.array(images, dtype=float)
    W, g = D.mean(axis=0), D.mean()
    for _ in range(rounds):
        p, q = D @ W / W.sum(), (1 - D) @ (1 - W) / (1 - W).sum()
        a = np.prod(np.where(D == 1, p[:, None], 1 - p[:, None]), axis=0)
        b = np.prod(np.where(D == 1, 1 - q[:, None], q[:, None]), axis=0)
        W = g * a / (g * a + (1 - g) * b)
    return W, p, q


# STAPLE


def test_staple_gives_what_simpleitk_gives():
    """SimpleITK 2.5.7."""
    outputs = masks(RATERS)
    found = performance(outputs)
    sensitivity = [0.9999996353322697, 0.7103844853933914, 0.7103846941078302, 0.7009130651892714]
    specificity = [0.8892858221695245, 0.8644263418230664, 0.864426451291767, 0.6053769555918984]
    np.testing.assert_allclose(found.sensitivity[0], sensitivity, atol=1e-9)
    np.testing.assert_allclose(found.specificity[0], specificity, atol=1e-9)
    W = staple(outputs).values.ravel()
    np.testing.assert_allclose(
        W[[0, 1, 2, 10]], [0.987695540368, 0.99654675829, 0.948591638918, 0.247089550707]
    )
    W = staple(outputs, confidence_weight=0.5).values.ravel()
    np.testing.assert_allclose(W[[0, 3, 10]], [0.9443662185, 0.774998215422, 0.048930646016], atol=1e-9)
    found = performance(outputs, maximum_iterations=3)
    np.testing.assert_allclose(found.sensitivity[0, :2], [0.8510875278777453, 0.6250035002295202])
    assert found.iterations.tolist() == [3]


@settings(deadline=None, max_examples=40)
@given(arrays(np.uint8, st.tuples(st.integers(2, 6), st.integers(4, 30)), elements=st.integers(0, 1)))
def test_patterns_give_what_pixels_give(images):
    if not 0 < images.mean() < 1:
        return
    W, p, _ = slow_staple(images, 3)
    outputs = masks(images, (1, 1, images.shape[1]))
    if np.isfinite(W).all():
        np.testing.assert_allclose(staple(outputs, maximum_iterations=3).values.ravel(), W, atol=1e-9)
        np.testing.assert_allclose(performance(outputs, maximum_iterations=3).sensitivity[0], p, atol=1e-9)


def test_more_members_than_bits_in_a_machine_word():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 400)
    images = [np.where(rng.random(400) < 0.6, truth, 1 - truth) for _ in range(150)]
    outputs = masks(images, (1, 20, 20))
    W, _, _ = slow_staple(images, 2)
    np.testing.assert_allclose(staple(outputs, maximum_iterations=2).values.ravel(), W, atol=1e-9)
    assert (label_vote(outputs).values.ravel() == truth).mean() > 0.97
    assert (multilabel_staple(outputs).values.ravel() == truth).mean() > 0.97
    assert np.isfinite(staple({f"{n}{k}": o for n, o in outputs.items() for k in range(8)}).values).all()


@pytest.mark.parametrize("value", [0, 1])
def test_an_image_that_nobody_or_everybody_marks(value):
    outputs = masks([[value] * 12] * 3)
    assert (staple(outputs).values == value).all()
    found = performance(outputs)
    assert np.isnan(found.sensitivity if value == 0 else found.specificity).all()
    for fuser in (multilabel_staple, simple, shape_average, label_vote):
        assert (fuser(outputs).values == value).all()


def test_staple_looks_at_one_label_and_at_each_image_alone():
    two = {n: Masks(np.concatenate([o.values, o.values[:, ::-1]])) for n, o in masks(LABELS).items()}
    two["r1"] = Masks(two["r1"].values, (), [False, True])
    whole = staple(two, foreground_value=2)
    for row in range(2):
        alone = staple({n: o.take([row]) for n, o in two.items() if o.answered[row]}, foreground_value=2)
        np.testing.assert_array_equal(whole.values[row], alone.values[0])
    assert (staple(two, foreground_value=300).values == 0).all()
    found = performance(two, foreground_value=2)
    assert np.isnan(found.sensitivity[0, 1])
    assert found.members == ("r0", "r1", "r2", "r3")


# Votes


@settings(deadline=None, max_examples=40)
@given(
    arrays(
        np.int64, st.tuples(st.integers(1, 6), st.integers(1, 12)), elements=st.sampled_from([0, 3, 70000])
    )
)
def test_label_vote_counts_votes(images):
    outputs = {f"r{k}": Masks(i.reshape(1, 1, -1)) for k, i in enumerate(images)}
    vote, undecided = (
        label_vote(outputs).values.ravel(),
        label_vote(outputs, label_for_undecided_pixels=9).values.ravel(),
    )
    for k, column in enumerate(images.T):
        values, counts = np.unique(column, return_counts=True)
        tied = values[counts == counts.max()]
        assert vote[k] == tied[0]
        assert undecided[k] == (tied[0] if len(tied) == 1 else 9)


def test_weights_decide_and_heavy_members_rule():
    outputs = masks(LABELS)
    one = label_vote(outputs, weights={"r0": 0.5, "r1": 0.5, "r2": 0.5, "r3": 5})
    np.testing.assert_array_equal(one.values, outputs["r3"].values)
    one = label_vote(outputs, weights=[0, 1, 0, 0])
    np.testing.assert_array_equal(one.values, outputs["r1"].values)


def test_multilabel_staple_gives_what_simpleitk_gives():
    """SimpleITK 2.5.7."""
    right = [0, 0, 1, 1, 2, 2, 3, 3, 0, 1, 2, 3]
    assert multilabel_staple(masks(LABELS), label_for_undecided_pixels=4).values.ravel().tolist() == right
    prior = [0.1, 0.2, 0.3, 0.4]
    assert (
        multilabel_staple(masks(LABELS), label_for_undecided_pixels=4, prior_probabilities=prior)
        .values.ravel()
        .tolist()
        == right
    )
    tied = masks([[0, 1], [1, 0]], (1, 1, 2))
    assert multilabel_staple(tied, label_for_undecided_pixels=7).values.ravel().tolist() == [7, 7]
    assert multilabel_staple(tied).values.ravel().tolist() == [0, 0]


def test_staple_of_labels_beats_the_vote_where_one_rater_is_much_better():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 4, 5000)
    skills = (0.95, 0.4, 0.4, 0.4, 0.4)
    images = [np.where(rng.random(5000) < s, truth, rng.integers(0, 4, 5000)) for s in skills]
    outputs = masks(images, (1, 50, 100))
    right = [(f(outputs).values.ravel() == truth).mean() for f in (multilabel_staple, label_vote)]
    assert right[0] > right[1] + 0.1


def test_simple_leaves_out_who_is_far_from_the_vote():
    good, other, bad = [1] * 6 + [0] * 6, [1] * 5 + [0] * 7, [0] * 6 + [1] * 6
    outputs = masks([good, good, other, bad, bad])
    np.testing.assert_array_equal(simple(outputs, alpha=0.5).values.ravel(), good)
    assert simple(masks([[0] * 12, [0] * 12, bad])).values.sum() == 0


# Probabilities, classes


def test_means_of_probabilities_with_classes_in_other_orders():
    a = Masks([[[0.7, 0.3], [0.2, 0.8]]], ["ground", "cat"])
    b = Masks([[[0.6, 0.4], [0.9, 0.1]]], ["cat", "dog"])
    c = Masks(np.array([[0, 1]]), ["dog", "ground"])
    fused = mean({"b": b, "a": a, "c": c})
    assert fused.classes == ("ground", "cat", "dog")
    np.testing.assert_allclose(fused.values[0, 0], [0.7 / 3, 0.9 / 3, 1.4 / 3])
    fused = mean_argmax({"b": b, "a": a, "c": c})
    assert [fused.classes[k] for k in fused.values.ravel()] == ["dog", "cat"]
    assert label_vote({"a": a, "b": b}).values.tolist() == [[0, 1]]
    assert label_vote({"c": c, "d": c, "a": a}).values.ravel().tolist() == [
        ("ground", "cat", "dog").index(n) for n in ("dog", "ground")
    ]


def test_classes_of_a_member_of_weight_0_do_not_count():
    a, b = Masks(np.array([[0, 1]]), ["ground", "cat"]), Masks(np.array([[1, 0]]), ["dog", "ground"])
    for fuser in (mean, mean_argmax, label_vote, multilabel_staple, simple, shape_average):
        with_it, without = fuser({"a": a, "b": b}, weights={"a": 2, "b": 0}), fuser({"a": a})
        assert with_it.classes == without.classes == ("ground", "cat")
        np.testing.assert_array_equal(with_it.values, without.values)


def test_the_threshold_of_a_mean():
    soft = {"a": Masks([[0.2, 0.6, 0.5]]), "b": Masks([[0.4, 0.8, 0.5]])}
    assert mean_argmax(soft).values.tolist() == [[0, 1, 0]]
    assert mean_argmax(soft, threshold=0.25).values.tolist() == [[1, 1, 1]]
    assert mean_argmax(soft, weights={"a": 1, "b": 0}, threshold=0.25).values.tolist() == [[0, 1, 1]]


@pytest.mark.parametrize("name", FUSERS)
def test_float16_bool_and_wide_labels_and_one_pixel(name):
    fuser = FUSERS[name]
    for values in (np.ones((2, 1), bool), np.ones((2, 1), np.int64), np.ones((2, 1), np.float16)):
        fused = fuser({"a": Masks(values), "b": Masks(values), "ç": Masks(values)})
        assert fused.values.astype(float).tolist() == [[1], [1]]
    empty = Masks(np.zeros((0, 3, 3), np.uint8))
    assert len(fuser({"a": empty, "b": empty})) == 0
    none = Masks(np.zeros((1, 0, 3), np.uint8))
    assert fuser({"a": none, "b": none}).values.size == 0


# Shapes


def test_distances_are_exact():
    rng = np.random.default_rng(0)
    for shape, steps in (((7, 9), (1.0, 1.0)), ((4, 5, 6), (3.0, 0.5, 1.25)), ((11,), (2.0,))):
        mask = rng.random(shape) < 0.15
        mask.flat[3] = True
        here = np.array(list(product(*map(range, shape)))) * steps
        there = np.argwhere(mask) * steps
        slow = np.sqrt(((here[:, None] - there) ** 2).sum(-1)).min(1).reshape(shape)
        np.testing.assert_allclose(distance_to(mask, np.array(steps)), slow, atol=1e-12)
    assert np.isinf(distance_to(np.zeros((2, 2), bool), np.ones(2))).all()


def test_shape_average_lies_between_the_borders():
    y, x = np.indices((31, 31)) - 15
    circles = [(y**2 + x**2 <= r**2).astype(np.uint8)[None] for r in (5, 11)]
    fused = shape_average({"a": Masks(circles[0]), "b": Masks(circles[1])}).values[0]
    np.testing.assert_array_equal(fused, (y**2 + x**2 <= 8**2) & (fused > 0))
    assert abs(np.sqrt(fused.sum() / np.pi) - 8) < 0.4
    heavy = shape_average({"a": Masks(circles[0]), "b": Masks(circles[1])}, weights={"a": 5, "b": 1}).values[
        0
    ]
    assert abs(np.sqrt(heavy.sum() / np.pi) - 6) < 0.4
    with pytest.raises(OutputsError, match="spacing"):
        shape_average({"a": Masks(circles[0])}, spacing=[1, 0])


# Fits


def three_labels(rng, rows=8):
    truth = world().blobs(rng, rows) + world().blobs(rng, rows)
    outputs = {}
    for name, skill in (("a", 0.9), ("b b", 0.7), ("é", 0.5)):
        other = rng.integers(0, 3, truth.shape)
        outputs[name] = Masks(np.where(rng.random(truth.shape) < skill, truth, other).astype(np.uint8))
    return outputs, Masks(truth)


def test_confusion_matrices_are_those_of_the_truth():
    outputs, truth = three_labels(np.random.default_rng(0))
    fuser = fit_naive_bayes(outputs, truth, smoothing=1e-9)
    assert isinstance(fuser, Applied)
    matrix = np.array(fuser.options["confusion"]["é"])
    said, right = outputs["é"].values.ravel(), truth.values.ravel()
    slow = [[((right == t) & (said == s)).sum() / (right == t).sum() for s in range(3)] for t in range(3)]
    np.testing.assert_allclose(matrix, slow, atol=1e-9)
    np.testing.assert_allclose(np.array(fuser.options["prior"]), np.bincount(right) / len(right), atol=0.01)
    again = Applied.unpack(*fuser.pack(), {})
    np.testing.assert_array_equal(again(outputs).values, fuser(outputs).values)


@pytest.mark.parametrize("fit", [fit_naive_bayes, fit_label_vote, fit_mean_argmax])
def test_fits_do_better_on_new_images(fit):
    dice = score_of("dice", "masks")
    gains = []
    for seed in range(5):
        outputs, truth = world().world(np.random.default_rng(seed), 40)
        half = {n: o.take(slice(0, 20)) for n, o in outputs.items()}
        rest = {n: o.take(slice(20, 40)) for n, o in outputs.items()}
        fuser = fit(half, truth.take(slice(0, 20)))
        best = min(half, key=lambda n: dice.loss(half[n], truth.take(slice(0, 20))))
        new = truth.take(slice(20, 40))
        gains.append(dice.value(fuser(rest), new) - dice.value(rest[best], new))
    assert min(gains) > 0


def test_a_lower_threshold_is_found_where_dice_wants_it():
    rng = np.random.default_rng(0)
    truth = world().blobs(rng, 10)
    soft = {k: Masks(np.clip(truth * 0.4 + 0.08 * rng.random(truth.shape), 0, 1)) for k in ("a", "b")}
    fuser = fit_mean_argmax(soft, Masks(truth))
    assert 0.05 < fuser.options["threshold"] <= 0.4
    assert score_of("dice", "masks").value(fuser(soft), Masks(truth)) == 1


def test_fits_align_the_classes_of_the_truth():
    truth = Masks(np.array([[0, 1, 1, 2]]), ["dog", "cat", "bird"])
    a = Masks(np.array([[1, 0, 0, 0]]), ["cat", "dog"])
    b = Masks(np.array([[1, 0, 0, 1]]), ["cat", "dog"])
    for fit in (fit_naive_bayes, fit_label_vote, fit_mean_argmax):
        fused = fit({"a": a, "b": b}, truth)({"a": a, "b": b})
        assert [fused.classes[k] for k in fused.values[0, :3]] == ["dog", "cat", "cat"]
    with pytest.raises(TruthError, match="names of classes"):
        fit_label_vote({"a": a}, Masks(truth.values))


def test_fits_refuse_what_they_cannot_learn_from():
    outputs, truth = three_labels(np.random.default_rng(0))
    with pytest.raises(TruthError, match="no image has a truth"):
        fit_label_vote(outputs, Masks(truth.values, (), np.zeros(8, bool)))
    with pytest.raises(TruthError, match="the truth has 4"):
        fit_naive_bayes(outputs, truth.take(slice(0, 4)))
    with pytest.raises(TruthError, match="shape"):
        fit_naive_bayes(outputs, Masks(truth.values[:, :5]))
    with pytest.raises(TruthError, match="truth of masks, not Labels"):
        fit_naive_bayes(outputs, Labels.of(["a"] * 8))
    with pytest.raises(OutputsError, match="weights of rows"):
        fit_label_vote(outputs, truth, weights=[1, 2])
    with pytest.raises(OutputsError, match="probability in prior"):
        naive_bayes(outputs, labels=[0, 1], prior=[1.0], confusion={"a": [[1, 0], [0, 1]]})
    with pytest.raises(OutputsError, match=r"a \(1, 1\)"):
        naive_bayes(outputs, labels=[0, 1], prior=[0.5, 0.5], confusion={"a": [[1]]})


# Hostile input


@pytest.mark.parametrize("name", FUSERS)
@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({}, "no outputs"),
        ({"a": Masks(np.zeros((1, 2, 2), int)), "b": Masks(np.zeros((1, 2, 3), int))}, "one shape"),
        ({"a": Masks(np.zeros((1, 2, 2), int)), "b": Masks(np.zeros((2, 2, 2), int))}, "same images"),
        ({"a": Labels.of(["x"])}, "answered with labels"),
        ({"a": Masks([[0, -1]])}, "must not be negative"),
        ({"a": Masks([[0.0, np.nan]])}, "image 0: probabilities"),
        ({"a": Masks([[0.0, 1.5]])}, "image 0: probabilities"),
        ({"a": Masks([[0, 2]], ["x", "y"])}, "label 2 has no class"),
        ({"a": Masks([[0, 1]], ["x", "y"]), "b": Masks([[0, 1]])}, "names to all or to none"),
        ({"a": Masks([[[0.5, 0.5, 0.0]]], ["x", "y"])}, "last axis"),
        ({1: Masks([[0, 1]])}, "named by strings"),
    ],
)
def test_bad_masks_are_told(name, outputs, message):
    with pytest.raises(OutputsError, match=message):
        FUSERS[name](outputs)


@pytest.mark.parametrize("name", FUSERS)
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": 1, "b": -1}, "negative"),
        ({"a": 0, "b": 0}, "all weights are 0"),
        ([1, 2, 3], "3 weights for 2"),
        ({"a": 1, "bb": 1}, "did you mean 'b'"),
        ({"a": np.nan, "b": 1}, "finite"),
    ],
)
def test_bad_weights_are_told(name, weights, message):
    outputs = {"a": Masks([[0, 1]]), "b": Masks([[1, 1]])}
    with pytest.raises(OutputsError, match=message):
        FUSERS[name](outputs, weights=weights)


@pytest.mark.parametrize(
    ("fuser", "options", "message"),
    [
        (staple, {"foreground_value": -1}, "foreground_value must"),
        (staple, {"confidence_weight": 0}, "confidence_weight"),
        (staple, {"maximum_iterations": 0}, "maximum_iterations"),
        (multilabel_staple, {"prior_probabilities": [1.0]}, "greatest label is 1"),
        (multilabel_staple, {"prior_probabilities": [0.0, 0.0]}, "prior_probabilities must"),
        (multilabel_staple, {"label_for_undecided_pixels": 0.5}, "label_for_undecided_pixels must"),
        (label_vote, {"label_for_undecided_pixels": -1}, "label_for_undecided_pixels must"),
        (mean_argmax, {"threshold": 1.0}, "threshold"),
        (simple, {"alpha": -1.0}, "alpha"),
        (mean, {"weights": "ab"}, "could not convert"),
    ],
)
def test_bad_options_are_told(fuser, options, message):
    with pytest.raises(ValueError, match=message):
        fuser({"a": Masks([[0, 1]]), "b": Masks([[1, 1]])}, **options)


def test_labels_beyond_0_and_1_have_no_mean_without_classes():
    with pytest.raises(OutputsError, match="needs names of classes"):
        mean({"a": Masks([[0, 2]])})


# Patterns


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(1, 400), st.integers(0, 10**6))
def test_patterns_say_all_of_the_images(members, most, seed):
    rng = np.random.default_rng(seed)
    images = [rng.integers(0, most, 300).astype(np.int64) * 3 for _ in range(members)]
    images = [i.astype(np.uint8) for i in images] if most < 80 else images
    found = label_patterns(images)
    assert found.counts.sum() == 300
    assert len(np.unique(found.labels, axis=0)) == len(found.labels)
    for m, image in enumerate(images):
        np.testing.assert_array_equal(found.spread_labels(found.labels[:, m]), image)
        np.testing.assert_array_equal(found.spread(found.labels[:, m]), image)
    marked = binary_patterns(images, 3)
    for m, image in enumerate(images):
        np.testing.assert_array_equal(marked.spread_labels(marked.labels[:, m]), image == 3)


def test_strokes_of_real_digits():
    """Raters who draw the border of handwritten digits too tight, too wide, or with a shaking hand."""
    images = pytest.importorskip("sklearn.datasets").load_digits().images[:200] / 16
    rng = np.random.default_rng(0)
    truth = Masks((images > 0.5).astype(np.uint8))
    outputs = {}
    for name, level, shake in (
        ("tight", 0.75, 0.15),
        ("wide", 0.2, 0.15),
        ("shaky", 0.5, 0.5),
        ("blur", 0.45, 0.3),
    ):
        outputs[name] = Masks((images + shake * rng.normal(size=images.shape) > level).astype(np.uint8))
    dice = score_of("dice", "masks")
    half, rest = slice(0, 100), slice(100, 200)
    known, new = ({n: o.take(r) for n, o in outputs.items()} for r in (half, rest))
    best = max(known, key=lambda n: dice.value(known[n], truth.take(half)))
    alone = dice.value(new[best], truth.take(rest))
    for fit in (fit_label_vote, fit_naive_bayes, fit_mean_argmax):
        assert dice.value(fit(known, truth.take(half))(new), truth.take(rest)) > alone + 0.01
    assert dice.value(staple(new), truth.take(rest)) > alone - 0.05
