"""Contrastive distillation: a row's features of student and teacher belong together, those of other rows do
not. The one loss that remembers, so it has a file of its own.
"""

from __future__ import annotations

from typing import Any

from conjoin.errors import need

Tensor = Any


def contrast(
    student: int, teacher: int, rows: int, *, size: int = 128, negatives: int = 4096, seed: int = 0
) -> Any:
    """A module with call (student features, teacher features, indices of rows) -> scalar.

    Both are projected to `size` numbers of length 1; each is told apart from `negatives` rows of a memory of
    the other's, by noise-contrastive estimation at temperature 0.07; the memories follow with momentum 0.5.
    student, teacher: widths of the features; rows: of the training data. The memories take
    2 * rows * size float32. Tian, Krishnan and Isola 2020, arXiv 1910.10699.
    """
    torch, f = need("torch"), need("torch.nn.functional")
    negatives = max(1, min(negatives, rows - 1))
    draws = torch.Generator().manual_seed(seed)
    heat, momentum = 0.07, 0.5

    class Contrast(torch.nn.Module):  # type: ignore[misc, name-defined]
        """See `contrast`."""

        def __init__(self) -> None:
            super().__init__()
            self.student = torch.nn.Linear(student, size)
            self.teacher = torch.nn.Linear(teacher, size)
            for name in ("of_student", "of_teacher"):
                start = (torch.rand((rows, size), generator=draws) * 2 - 1) / (size / 3) ** 0.5
                self.register_buffer(name, start)
            self.register_buffer("constants", torch.full((2,), -1.0))

        def forward(self, said: Tensor, wanted: Tensor, index: Tensor) -> Tensor:
            own = f.normalize(self.student(said.flatten(1)), dim=1)
            other = f.normalize(self.teacher(wanted.flatten(1)), dim=1)
            others = torch.randint(0, rows, (len(index), negatives), generator=draws).to(index.device)
            places = torch.cat([index[:, None], others], 1)
            loss = self._loss(own, self.of_teacher[places], 0) + self._loss(other, self.of_student[places], 1)
            with torch.no_grad():
                self._remember(self.of_student, own, index)
                self._remember(self.of_teacher, other, index)
            return loss

        def _loss(self, x: Tensor, memory: Tensor, which: int) -> Tensor:
            score = torch.exp(torch.einsum("nd,nkd->nk", x, memory) / heat)
            if float(self.constants[which]) < 0:
                self.constants[which] = score.detach().mean() * rows
            p = score / self.constants[which].clone()
            noise = negatives / rows
            hit = torch.log(p[:, 0] / (p[:, 0] + noise + 1e-7))
            miss = torch.log(noise / (p[:, 1:] + noise + 1e-7))
            return -(hit.sum() + miss.sum()) / len(x)

        @staticmethod
        def _remember(memory: Tensor, x: Tensor, index: Tensor) -> None:
            memory[index] = f.normalize(memory[index] * momentum + x * (1 - momentum), dim=1)

    return Contrast()
