"""Losses for pictures and captions of which several belong together and some are of unknown truth."""

from __future__ import annotations

from itertools import groupby

import torch
import torch.nn.functional as F


def sigmoid_loss(logits: torch.Tensor, relations: torch.Tensor) -> torch.Tensor:
    """SigLIP's loss (Zhai et al. 2023, eq. 1) over all pairs whose truth is known; every true pair is a positive.

    Positives and negatives weigh alike, though a batch has ten times as many negatives, most of them of another kind of
    picture and soon easy; telling the answers to one question apart is `question_loss`'s part.

    Args:
        logits: (pictures, captions).
        relations: +1 true, -1 false, 0 unknown, of the same shape.
    """
    loss = -F.logsigmoid(relations * logits)
    positive, negative = relations > 0, relations < 0
    return sum(((loss * part).sum() / part.sum().clamp(min=1) for part in (positive, negative)), logits.new_zeros(()))


def question_loss(logits: torch.Tensor, relations: torch.Tensor, questions: list[str]) -> torch.Tensor:
    """For each question, cross-entropy over its captions: what zero-shot classification asks.

    Several true captions share the probability (the sum over them counts); a picture whose answer is unknown, or of
    which no caption is false, does not count. The mean is over pictures, then over questions.

    Args:
        logits: (pictures, captions).
        relations: +1 true, -1 false, 0 unknown, of the same shape.
        questions: the question of each caption; those of one question stand together.
    """
    losses = []
    start = 0
    for _, members in groupby(questions):
        part = slice(start, start := start + len(list(members)))
        truth, some = relations[:, part], logits[:, part]
        asked = (truth > 0).any(1) & (truth < 0).any(1)
        if asked.any():
            truth, some = truth[asked], some[asked]
            known = some.masked_fill(truth == 0, -torch.inf).logsumexp(1)
            true = some.masked_fill(truth <= 0, -torch.inf).logsumexp(1)
            losses.append((known - true).mean())
    return torch.stack(losses).mean() if losses else logits.sum() * 0


def feature_loss(found: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean squared error of a teacher's features, each of variance 1: 1 for whoever only knows the means.

    Args:
        found, targets: (views, features).
    """
    return F.mse_loss(found, targets) if len(targets) else found.sum() * 0
