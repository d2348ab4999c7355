"""A linear probe: multinomial logistic regression on embeddings, for classes that words don't describe well.

Fitting uses scikit-learn; a fitted probe is two small matrices in a safetensors file, stored like a bundle's label
bank, with the fingerprint of the bundle it belongs to, and is applied in numpy.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from ..bundles.atomic import atomic_file, refuse_existing
from ..bundles.bounds import Label
from ..bundles.manifest import sha256_json
from ..bundles.tensors import Declared, read_tensors
from ..bundles.typed_json import parse
from ..errors import MissingExtraError, ProbeError, one_line
from ..notebook import shorten
from .embedder import softmax

STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)  # inverse regularisation, chosen by cross-validation


@dataclass(frozen=True)
class Probe:
    """A fitted probe: logits = embeddings @ weight.T + bias.

    Attributes:
        labels: the classes.
        weight: (classes, D) float32.
        bias: (classes,) float32.
        fingerprint: of the bundle whose embeddings it was fitted on.
        facts: how it was fitted (counts of each label, strength, cross-validated log loss).

    Examples:
        >>> rows = np.eye(192, dtype=np.float32)[:4]
        >>> probe = medge.fit_probe(rows, ["ill", "ill", "well", "well"], medge.load_encoder("bundle").fingerprint)
        >>> probe
        <Probe of ill, well, fitted on 4 images>
    """

    labels: tuple[str, ...]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    fingerprint: str
    facts: dict[str, Any]

    def __repr__(self) -> str:
        return f"<Probe of {shorten(self.labels)}, fitted on {sum(self.facts['counts'].values())} images>"

    def logits(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Logits, (N, classes), of embeddings, (N, D).

        Raises:
            ProbeError: embeddings of another bundle, or not finite.

        Examples:
            >>> rows = np.eye(192, dtype=np.float32)[:4]
            >>> probe = medge.fit_probe(rows, ["ill", "ill", "well", "well"], medge.load_encoder("bundle").fingerprint)
            >>> probe.logits(rows).shape
            (4, 2)
        """
        if embeddings.shape[-1] != self.weight.shape[1]:
            sizes = f"{self.weight.shape[1]} numbers, these have {embeddings.shape[-1]}"
            raise ProbeError(f"the probe reads embeddings of {sizes}; use the bundle that it was fitted on")
        logits = np.asarray(embeddings @ self.weight.T + self.bias, np.float64)
        if not np.isfinite(logits).all():
            raise ProbeError("embeddings, or what the probe makes of them, are not finite numbers; embed or fit again")
        return logits

    def predict(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities, (N, classes), of embeddings, (N, D).

        Raises:
            ProbeError: embeddings of another length, or such that are not finite.

        Examples:
            >>> rows = np.eye(192, dtype=np.float32)[:4]
            >>> probe = medge.fit_probe(rows, ["ill", "ill", "well", "well"], medge.load_encoder("bundle").fingerprint)
            >>> [probe.labels[column] for column in probe.predict(rows).argmax(axis=1)]
            ['ill', 'ill', 'well', 'well']
        """
        return softmax(self.logits(embeddings))

    def save(self, path: Path, *, force: bool = False) -> None:
        """Write it, as safetensors.

        Raises:
            StorageError: `path` exists and `force` is false, or it can't be written.

        Examples:
            >>> rows = np.eye(192, dtype=np.float32)[:4]
            >>> probe = medge.fit_probe(rows, ["ill", "ill", "well", "well"], medge.load_encoder("bundle").fingerprint)
            >>> probe.save(Path("saved.probe"), force=True)
            >>> medge.Probe.load(Path("saved.probe"), probe.fingerprint)
            <Probe of ill, well, fitted on 4 images>
        """
        refuse_existing(path, force=force)
        tensors = {"weight": self.weight, "bias": self.bias}
        words = {
            "labels": json.dumps(self.labels, ensure_ascii=False), "fingerprint": self.fingerprint,
            "facts": json.dumps(self.facts),
        }  # fmt: skip
        metadata = {**words, "sha256": _digest(tensors), "words_sha256": sha256_json(words)}
        with atomic_file(path) as partial:
            save_file(tensors, partial, metadata)

    @classmethod
    def load(cls, path: Path, fingerprint: str) -> Probe:
        """Read a probe that belongs to the bundle of this fingerprint.

        Raises:
            ProbeError: missing, damaged, or of another bundle.

        Examples:
            >>> encoder, rows = medge.load_encoder("bundle"), np.eye(192, dtype=np.float32)[:4]
            >>> medge.fit_probe(rows, ["ill", "ill", "well", "well"], encoder.fingerprint).save(Path("my.probe"), force=True)
            >>> medge.Probe.load(Path("my.probe"), encoder.fingerprint).predict(encoder.embed_images("film.dcm")).shape
            (1, 2)
            >>> medge.Probe.load(Path("my.probe"), "another bundle")
            Traceback (most recent call last):
            medge.runtime.errors.ProbeError: my.probe was fitted on another bundle's embeddings; ...
        """
        try:
            shapes = {"weight": Declared("F32", ("classes", None)), "bias": Declared("F32", ("classes",))}
            tensors, metadata = read_tensors(path, shapes)
            words = {name: metadata.get(name, "") for name in ("labels", "fingerprint", "facts")}
            if metadata.get("sha256") != _digest(tensors) or metadata.get("words_sha256") != sha256_json(words):
                raise ProbeError(f"{path} was changed after it was written, or by an older medge; copy or fit it again")
            labels = msgspec.json.decode(words["labels"], type=tuple[Label, ...])
            if len(labels) != len(tensors["bias"]) or len(set(labels)) != len(labels):
                raise ValueError(f"{len(set(labels))} labels have {len(tensors['bias'])} rows")
            probe = cls(
                labels, tensors["weight"], tensors["bias"], words["fingerprint"], parse(words["facts"].encode())
            )
        except (msgspec.DecodeError, RecursionError, ValueError) as error:
            raise ProbeError(f"{path} is no probe ({one_line(error)})") from error
        if probe.fingerprint != fingerprint:
            raise ProbeError(f"{path} was fitted on another bundle's embeddings; use that bundle, or fit it again")
        return probe


def _digest(tensors: dict[str, NDArray[np.float32]]) -> str:
    return hashlib.sha256(b"".join(tensors[name].tobytes() for name in sorted(tensors))).hexdigest()


def fit_probe(embeddings: NDArray[np.float32], labels: list[str], fingerprint: str, *, seed: int = 0) -> Probe:
    """Fit a probe; its regularisation is chosen by stratified cross-validation.

    Args:
        embeddings: of images, (N, D) float32, of unit length.
        labels: N classes, one an image.
        fingerprint: of the encoder that made the embeddings; the probe is refused with another.
        seed: of the split into folds.

    Raises:
        ProbeError: fewer than two classes, or a class with one image: nothing would be left to try a choice on.
        MissingExtraError: scikit-learn is not installed.

    Examples:
        >>> encoder = medge.load_encoder("bundle")
        >>> films = encoder.embed_images([np.full((32, 32), 9 * grey, np.uint8) for grey in range(8)])
        >>> probe = medge.fit_probe(films, ["dark"] * 4 + ["bright"] * 4, encoder.fingerprint)
        >>> probe.predict(films).shape
        (8, 2)
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GridSearchCV, StratifiedKFold
        from sklearn.preprocessing import StandardScaler
    except ModuleNotFoundError as error:
        raise MissingExtraError("scikit-learn", "probe") from error
    names = tuple(sorted(set(labels)))
    if len(names) < 2:
        raise ProbeError(f"a probe needs at least two labels, found {len(names)}: {', '.join(names)}")
    truth = np.array([names.index(label) for label in labels])
    counts = np.bincount(truth)
    if lonely := [name for name, count in zip(names, counts, strict=True) if count < 2]:
        raise ProbeError(
            f"{', '.join(lonely)}: one image is not enough; a label needs at least two, better some dozens"
        )
    scaler = StandardScaler().fit(embeddings)
    scaled = scaler.transform(embeddings)
    folds = int(min(5, counts.min()))
    model = LogisticRegression(max_iter=2000, class_weight="balanced")
    facts: dict[str, Any] = {"counts": {name: int(count) for name, count in zip(names, counts, strict=True)}}
    search = GridSearchCV(model, {"C": STRENGTHS}, cv=StratifiedKFold(folds, shuffle=True, random_state=seed),
                          scoring="neg_log_loss")  # fmt: skip
    search.fit(scaled, truth)
    model = search.best_estimator_
    facts |= {"strength": float(search.best_params_["C"]), "folds": folds,
              "cross_validated_log_loss": -float(search.best_score_)}  # fmt: skip
    # The scaling is folded into the matrix, so that applying the probe is one product.
    weight = np.asarray(model.coef_) / scaler.scale_
    bias = np.asarray(model.intercept_) - weight @ scaler.mean_
    if len(names) == 2:  # scikit-learn keeps one row for two classes: its logit is the second's against the first's
        weight, bias = np.concatenate([-weight / 2, weight / 2]), np.concatenate([-bias / 2, bias / 2])
    # scikit-learn's coefficients can be column-major, and safetensors writes a buffer as it lies.
    return Probe(names, np.ascontiguousarray(weight, np.float32), bias.astype(np.float32), fingerprint, facts)


def evaluate_probe(probe: Probe, embeddings: NDArray[np.float32], labels: list[str]) -> dict[str, Any]:
    """Accuracy, macro AUC and ECE with bootstrap 95% intervals on labelled embeddings.

    Raises:
        ProbeError: a label that the probe does not know.
    """
    from ..bundles import metrics

    if unknown := sorted(set(labels) - set(probe.labels)):
        raise ProbeError(f"the probe knows {', '.join(probe.labels)}; the folder has also {', '.join(unknown)}")
    truth = np.array([probe.labels.index(label) for label in labels])
    scores = probe.predict(embeddings)
    out: dict[str, Any] = {"images": len(truth)}
    for name, make in (("accuracy", metrics.accuracy_of), ("auc", metrics.macro_auc_of),
                       ("ece", metrics.expected_calibration_error_of)):  # fmt: skip
        statistic = make(scores, truth)
        low, high = metrics.bootstrap(statistic, len(truth))
        out[name] = {"value": statistic(np.arange(len(truth))), "low": low, "high": high}
    return out
