from __future__ import annotations

import torch

from zeroloss_export.training.loss import identification_loss


def test_unknown_labels_have_no_gradient() -> None:
    logits = torch.zeros(2, 3, requires_grad=True)
    present = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    known = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    torch.autograd.backward(identification_loss(logits, present, known, 0.5))
    assert logits.grad is not None
    assert logits.grad[0, 2] == 0
    assert logits.grad[0, 0] < 0 < logits.grad[0, 1]


def test_right_answers_cost_nothing_and_wrong_ones_much() -> None:
    present = torch.tensor([[1.0, 0.0]])
    known = torch.ones(1, 2)
    right = identification_loss(torch.tensor([[20.0, -20.0]]), present, known, 1.0)
    wrong = identification_loss(torch.tensor([[-20.0, 20.0]]), present, known, 1.0)
    assert float(right) < 1e-5
    assert float(wrong) > 15


def test_soft_f1_rewards_confidence() -> None:
    present, known = torch.tensor([[1.0, 0.0]]), torch.ones(1, 2)
    unsure, sure = torch.tensor([[1.0, -1.0]]), torch.tensor([[3.0, -3.0]])

    def soft_part(logits: torch.Tensor) -> float:
        with_it = identification_loss(logits, present, known, 1.0)
        return float(with_it - identification_loss(logits, present, known, 0.0))

    assert soft_part(unsure) > soft_part(sure) > 0


def test_a_teacher_is_the_target_of_the_entropy() -> None:
    logits = torch.zeros(1, 2)
    present, known = torch.tensor([[1.0, 0.0]]), torch.ones(1, 2)
    taught = torch.tensor([[0.5, 0.5]])
    logits.requires_grad_()
    torch.autograd.backward(identification_loss(logits, present, known, 0.0, taught))
    assert logits.grad is not None
    assert float(logits.grad.abs().max()) < 1e-7
