"""Losses of distillation against what their papers prove of them."""

import math

import pytest

torch = pytest.importorskip("torch")

from conjoin.transfer.distil import losses  # noqa: E402
from conjoin.transfer.distil.contrast import contrast  # noqa: E402

F = torch.nn.functional


@pytest.fixture
def pair():
    draws = torch.Generator().manual_seed(3)
    return torch.randn(9, 5, generator=draws), 2 * torch.randn(9, 5, generator=draws)


@pytest.mark.parametrize("name", losses.LOGIT_LOSSES)
def test_a_student_like_its_teacher_loses_nothing(name, pair):
    teacher = pair[1]
    assert float(losses.LOGIT_LOSSES[name](teacher.clone(), teacher)) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("name", losses.LOGIT_LOSSES)
@pytest.mark.parametrize("shape", [(1, 3), (6, 2), (6, 4)])
def test_descending_comes_nearer(name, shape):
    draws = torch.Generator().manual_seed(1)
    teacher = torch.randn(shape, generator=draws, dtype=torch.float64)
    student = torch.randn(shape, generator=draws, dtype=torch.float64).requires_grad_()
    labels = torch.zeros(shape[0], dtype=torch.int64)
    loss = losses.LOGIT_LOSSES[name]
    before = loss(student, teacher, labels)
    before.backward()
    assert torch.isfinite(student.grad).all()
    if name == "kd_standardised" and shape[1] == 2:
        return  # two standardised logits are 1 and -1, whatever they were
    after = loss(student.detach() - 1e-3 * student.grad, teacher, labels)
    assert float(after) < float(before.detach())


def test_kd_at_a_high_temperature_matches_centred_logits(pair):
    student, teacher = pair
    heat = 1e3
    gap = (teacher - teacher.mean(1, keepdim=True)) - (student - student.mean(1, keepdim=True))
    wanted = float((gap**2).sum(1).mean()) / (2 * student.shape[1])
    got = losses.kd(student.double(), teacher.double(), temperature=heat)
    assert float(got) == pytest.approx(wanted, rel=1e-2)


def test_kd_by_hand():
    student, teacher = torch.zeros(1, 2), torch.tensor([[math.log(3.0), 0.0]])
    wanted = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert float(losses.kd(student, teacher, temperature=1)) == pytest.approx(wanted, rel=1e-5)


def test_dkd_puts_together_what_kd_is(pair):
    """KD = TCKD + (1 - p_true) NCKD, row by row (equation 6 of the paper)."""
    student, teacher = (x.double() for x in pair)
    labels = torch.arange(9) % 5
    p = F.softmax(teacher, -1)[torch.arange(9), labels]
    for row in range(9):
        one = slice(row, row + 1)
        given = (student[one], teacher[one], labels[one])
        target = losses.dkd(*given, temperature=1, alpha=1, beta=0)
        among = losses.dkd(*given, temperature=1, alpha=0, beta=1)
        whole = losses.kd(*given, temperature=1)
        assert float(target + (1 - p[row]) * among) == pytest.approx(float(whole), rel=1e-9)


def test_standardised_logits_forget_shift_and_scale(pair):
    student, teacher = pair
    moved = losses.kd_standardised(3 * student + 7, teacher)
    assert float(moved) == pytest.approx(float(losses.kd_standardised(student, teacher)), abs=1e-5)


def test_dist_by_hand():
    student = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]]))
    teacher = torch.log(torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.7, 0.1]]))
    a, b = student.exp(), teacher.exp()
    rows = [torch.corrcoef(torch.stack([a[i], b[i]]))[0, 1] for i in range(2)]
    columns = [torch.corrcoef(torch.stack([a[:, k], b[:, k]]))[0, 1] for k in range(3)]
    wanted = (1 - sum(rows) / 2) + (1 - sum(columns) / 3)
    assert float(losses.dist(student, teacher)) == pytest.approx(float(wanted), rel=1e-5)


def test_relations_do_not_change_with_scale_and_turning():
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(7, 4, generator=draws, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(4, 4, generator=draws, dtype=torch.float64))[0]
    assert float(losses.rkd(3 * x @ turn, x)) == pytest.approx(0, abs=1e-9)
    assert float(losses.rkd(x**3, x)) > 0.01
    wide = torch.cat([x, torch.zeros(7, 3, dtype=torch.float64)], 1)
    assert float(losses.rkd(wide, x)) == pytest.approx(0, abs=1e-9)
    assert float(losses.rkd(x[:1], x[:1])) == 0


def test_equal_rows_have_a_gradient():
    x = torch.ones(4, 3, requires_grad=True)
    losses.rkd(x, torch.randn(4, 3, generator=torch.Generator().manual_seed(0))).backward()
    assert torch.isfinite(x.grad).all()


def test_attention_sees_where_not_how_much():
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, 6, 6, generator=draws)
    assert float(losses.attention(5 * x, x)) == pytest.approx(0, abs=1e-9)
    assert float(losses.attention(torch.randn(3, 8, 3, 3, generator=draws), x)) > 0
    still = torch.randn(2, 8, 5, generator=draws)
    assert float(losses.attention(still, still)) == pytest.approx(0, abs=1e-9)


def test_contrast_learns_which_row_is_which():
    draws = torch.Generator().manual_seed(0)
    teacher = torch.randn(64, 10, generator=draws)
    torch.manual_seed(0)
    student = torch.nn.Linear(10, 6)
    loss = contrast(6, 10, 64, size=16, negatives=32)
    parameters = [*student.parameters(), *loss.parameters()]
    optimiser = torch.optim.Adam(parameters, 1e-2)
    seen = []
    for _ in range(80):
        value = loss(student(teacher), teacher, torch.arange(64))
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        seen.append(float(value.detach()))
    assert seen[-1] < 0.5 * max(seen[:5])
    own = F.normalize(loss.student(student(teacher)), dim=1)
    other = F.normalize(loss.teacher(teacher), dim=1)
    found = (own @ other.T).argmax(1)
    assert float((found == torch.arange(64)).float().mean()) > 0.5
