"""Score a task's images by linear probes on its training side, at several shares of the labels.

All images are embedded first, into a file that an interrupted command goes on with; fitting is quick.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from ...bundles.manifest import sha256_json
from ...console.image_run import ImageRun, Outcome
from ...console.layouts import EMBEDDINGS, TABLES, Columns, as_numbers, check_ending, read_rows
from ...console.result_file import ResultFile
from ...console.terminal import warn
from ...errors import MissingExtraError, ProbeError, TaskError
from ...evaluation.figures import figures_of
from ...evaluation.items import Item
from ...evaluation.rows import judged_of, row_of
from ...evaluation.shares import SHARES, Embeddings, scores_by_probe, share_of
from .pictures import Asked, Material, Scored, columns_of, inputs_of
from .subject import Subject
from .written import items_file

if TYPE_CHECKING:
    from ...pictures.view import View

EMBEDDED = "embeddings.safetensors"
FITTED = (
    "logistic regression on embeddings that were scaled to unit variance, its regularisation chosen by stratified "
    "cross-validation, classes weighted by their number; of findings one a finding"
)


def score_by_probe(subject: Subject, asked: Asked, material: Material, view: View) -> Scored:
    """Score the test side by probes on shares of the training side; the file of items holds those of the greatest.

    Raises:
        TaskError: there is nothing to train on.
        ProbeError: not even all training images are enough.
        MissingExtraError: scikit-learn is not installed, or what writes the file of items.
        StorageError: a file holds the results of another question.
        typer.Exit: after Ctrl-C.
    """
    check_ending(items_file(asked.place, asked.form), TABLES)
    if find_spec("sklearn") is None:  # told before an archive is embedded
        raise MissingExtraError("scikit-learn", "probe")
    if not material.train:
        raise TaskError(f"{asked.data}: there are no images on the training side; a probe needs some")
    run = ImageRun(
        inputs_of([*material.train, *material.test]), view, asked.place / EMBEDDED, EMBEDDINGS, force=asked.force
    )
    fingerprint = subject.encoder.fingerprint
    same = {"model": fingerprint, "made_with": sha256_json([fingerprint, asked.no_names])[:16]}
    columns = Columns("id", same)
    run.go_through(subject.through, columns, lambda embedding, _: Outcome({}, {"embedding": as_numbers(embedding)}))
    embeddings = {row["id"]: row["embedding"] for row in read_rows(asked.place / EMBEDDED, columns)}
    train = [item for item in material.train if item.key in embeddings]
    test = [item for item in material.test if item.key in embeddings]
    told = {
        "prompts_from": "none: a probe reads no prompts", "fitted": FITTED,
        "split": "the data's own" if material.found.has_split else f"half of the groups at random, seed {asked.seed}",
    }  # fmt: skip
    if not test:
        return Scored(run, [], told)
    rows, shares = _by_shares(asked, material, train, test, embeddings)
    _write(subject, asked, material, rows)
    return Scored(run, rows, told, {"shares": shares})


def _by_shares(
    asked: Asked, material: Material, train: list[Item], test: list[Item], embeddings: Embeddings
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows of all labels, and the figures of every share; where a share is too small, why."""
    shares: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    for share in SHARES:
        fitted_on = share_of(train, share, asked.seed)
        told: dict[str, Any] = {"trained_on": len(fitted_on)}
        try:
            scores = scores_by_probe(fitted_on, test, embeddings, material.labels, one=asked.one, seed=asked.seed)
        except ProbeError as error:
            if share == SHARES[-1]:
                raise
            warn(f"no probe on {share:.0%} of the labels ({len(fitted_on)} images): {error}")
            shares[str(share)] = {**told, "too_few": str(error)}
            continue
        rows = [
            {"id": item.key, **row_of(item, material.labels, row.astype(np.float32), 0.0, one=asked.one)}
            for item, row in zip(test, scores, strict=True)
        ]
        judged = judged_of(rows, material.labels, one=asked.one, ordinal=asked.named.task.ordinal)
        shares[str(share)] = {**told, "figures": figures_of(judged)["figures"]}
    return rows, shares


def _write(subject: Subject, asked: Asked, material: Material, rows: list[dict[str, Any]]) -> None:
    """The file of items; it costs nothing to make it anew."""
    question = [[item.key for item in material.train], asked.seed]
    columns = columns_of(subject, asked, material, question)
    with ResultFile(items_file(asked.place, asked.form), columns, force=True) as file:
        for row in rows:
            file.add({**columns.same, **row})
