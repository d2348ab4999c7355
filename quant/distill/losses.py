"""What a student is asked to be like: embeddings, their relations, captions, scores, next-token distributions.

Embeddings are compared by what their mean does not explain: SigLIP's embeddings share a large common part, beside which
all that tells images apart looks small, so plain distances would be next to zero from the start.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F

Divergence = Literal["forward", "reverse", "skewed"]
SKEW = 0.1  # share of the teacher in the mixture, Ko et al. 2024 ("DistiLLM")


def regression(student: torch.Tensor, teacher: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Unexplained share of the teacher's variance: 0 for equal embeddings, 1 for the mean instead of each.

    Args:
        student, teacher: (N, D), of unit length.
        mean: of the teacher's embeddings over the whole archive, (D,).
    """
    return (student - teacher).square().sum() / (teacher - mean).square().sum().clamp_min(1e-12)


def relational(student: torch.Tensor, teacher: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Unexplained share of the similarities among the images of a batch, centred: who is like whom.

    Unlike regression it does not mind a turned embedding, but it sees every pair (Park et al. 2019, "Relational knowledge
    distillation", the similarity matrix in the place of distances).
    """
    a, b = student - mean, teacher - mean
    ours, theirs = a @ a.T, b @ b.T
    return (ours - theirs).square().sum() / theirs.square().sum().clamp_min(1e-12)


def contrastive(
    images: torch.Tensor, texts: torch.Tensor, same: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """SigLIP's sigmoid loss of images and their captions (Zhai et al. 2023, eq. 1), averaged over all pairs.

    Args:
        images: (N, D), of unit length.
        texts: (M, D), of unit length.
        same: (N, M) bool, which caption belongs to which image; equal captions belong to each of their images.
        scale, bias: of the teacher's logits, the scale as it multiplies.
    """
    logits = images @ texts.T * scale + bias
    loss = -F.logsigmoid(torch.where(same, logits, -logits))
    positives = same.sum().clamp_min(1)
    return loss[same].sum() / positives + loss[~same].sum() / positives


def label_scores(
    student: torch.Tensor, teacher: torch.Tensor, bank: torch.Tensor, teacher_bank: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """KL divergence of the student's softmax scores over a label bank from the teacher's, mean over images."""
    ours = F.log_softmax(student @ bank.T * scale, dim=-1)
    theirs = F.log_softmax(teacher @ teacher_bank.T * scale, dim=-1)
    return F.kl_div(ours, theirs, log_target=True, reduction="batchmean")


def top_k_divergence(
    logits: torch.Tensor, ids: torch.Tensor, log_probabilities: torch.Tensor, kind: Divergence = "forward"
) -> torch.Tensor:
    """Divergence of next-token distributions of which the teacher's is known for its likeliest tokens only.

    What is left over on either side is one more token, so that both are distributions: the student can't win by moving
    mass to where the teacher was not recorded.

    Args:
        logits: the student's, (N, V).
        ids: the teacher's likeliest tokens, (N, K).
        log_probabilities: their natural logarithms, (N, K).
        kind: forward is KL(teacher, student), reverse KL(student, teacher), skewed KL(teacher, mixture of both), which
            stays bounded where the student forgot a token.
    """
    total = torch.logsumexp(logits.float(), dim=-1, keepdim=True)
    ours = _with_rest(logits.gather(1, ids).float() - total)
    theirs = _with_rest(log_probabilities.float())
    if kind == "reverse":
        return (ours.exp() * (ours - theirs)).sum(-1).mean()
    if kind == "skewed":
        mixture = (SKEW * theirs.exp() + (1 - SKEW) * ours.exp()).log()
        return (theirs.exp() * (theirs - mixture)).sum(-1).mean()
    return (theirs.exp() * (theirs - ours)).sum(-1).mean()


def _with_rest(log_probabilities: torch.Tensor) -> torch.Tensor:
    rest = (1 - log_probabilities.exp().sum(-1, keepdim=True)).clamp_min(1e-6).log()
    return torch.cat([log_probabilities, rest], dim=-1)
