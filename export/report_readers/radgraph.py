"""RadGraph by the package radgraph, from a folder: that package would look for its models on a hub, and for BERT by its name."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...runtime.bundles.claim import scratch_folder
from ...runtime.bundles.manifest import sha256_file, sha256_json
from ...runtime.errors import CheckpointError, MissingExtraError, one_line
from ...runtime.evaluation.readings.radgraph import COLUMNS
from ...runtime.evaluation.readings.reading import Numbers
from ..source.checkpoint import read_json
from .folder import check_files

WEIGHTS, CONFIG, VOCABULARY, BERT = "weights.th", "config.json", "vocabulary", "bert"
TYPES = ("radgraph", "radgraph-xl", "modern-radgraph-xl")  # of chest films; the package knows echograph as well
Scorer = Callable[[str, str], Numbers]


@dataclass(frozen=True)
class RadGraphFolder:
    """A folder into which `radgraph-xl.tar.gz` was unpacked, with a folder `bert` that has the config and tokenizer of its BERT.

    Attributes:
        folder: where it lies.
    """

    folder: Path

    @property
    def name(self) -> str:
        return "radgraph"

    @cached_property
    def identity(self) -> str:
        files = [self.folder / WEIGHTS, self.folder / CONFIG]
        files += [path for part in (VOCABULARY, BERT) for path in sorted((self.folder / part).iterdir())]
        return sha256_json(
            [[path.name, sha256_file(path)] for path in files if path.suffix != ".lock" and path.is_file()]
        )

    def check(self) -> None:
        """Refuse a folder that can't be used.

        Raises:
            CheckpointError: a file is missing, damaged, or another model's.
            MissingExtraError: `medge[radgraph]` is not installed.
        """
        for module in ("torch", "transformers", "radgraph"):
            if find_spec(module) is None:
                raise MissingExtraError(module, "export" if module != "radgraph" else "radgraph")
        from transformers import PreTrainedTokenizerBase

        if not hasattr(PreTrainedTokenizerBase, "encode_plus"):  # transformers 5 has dropped what radgraph 0.1.18 calls
            raise MissingExtraError("transformers<5", "radgraph")
        check_files(
            self.folder,
            (WEIGHTS, CONFIG, f"{BERT}/config.json"),
            WEIGHTS,
            f"RadGraph needs its unpacked archive and, in {BERT}, the config and tokenizer of the BERT that its config.json "
            "names; medge downloads none of them",
        )
        self._load()

    def open(self) -> Scorer:
        model = self._load()

        def score(said: str, right: str) -> Numbers:
            if not said.strip() or not right.strip():  # the package gives 0 as well, but not to an empty report alone
                return dict.fromkeys(COLUMNS, 0.0)
            with _quietly():
                _, found, *_ = model(hyps=[said], refs=[right])
            return {column: round(float(values[0]), 6) for column, values in zip(COLUMNS, found, strict=True)}

        return score

    @property
    def _type(self) -> str:
        """Which of the published models it is, by the labels of its vocabulary."""
        found = [one for one in TYPES if (self.folder / VOCABULARY / f"{one}__ner_labels.txt").is_file()]
        if len(found) != 1:
            raise CheckpointError(
                f"{self.folder / VOCABULARY}: holds the labels of none of {', '.join(TYPES)}, or of several"
            )
        return found[0]

    def _load(self) -> Any:
        kind = self._type
        with scratch_folder() as place, _quietly():
            self._lay_out(place / kind)
            from radgraph import F1RadGraph

            try:
                # On the CPU: only there does the package read weights as tensors, and nothing else that a file may hold.
                return F1RadGraph(reward_level="all", model_type=kind, model_cache_dir=str(place), cuda=-1)
            except Exception as error:  # whatever allennlp's code raises of a damaged file
                raise CheckpointError(
                    f"{self.folder}: the package radgraph can't load it ({one_line(error)})"
                ) from error

    def _lay_out(self, place: Path) -> None:
        """The folder as the package wants it, with the BERT's place for its name; the package writes into the vocabulary."""
        facts = read_json(self.folder / CONFIG)
        bert = str((self.folder / BERT).resolve())
        try:
            for part in (facts["dataset_reader"]["token_indexers"], facts["model"]["embedder"]["token_embedders"]):
                part["bert"]["model_name"] = bert
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"{self.folder / CONFIG}: names no BERT where RadGraph's does ({error})") from error
        place.mkdir()
        (place / CONFIG).write_text(json.dumps(facts), encoding="utf-8")
        (place / WEIGHTS).symlink_to((self.folder / WEIGHTS).resolve())
        shutil.copytree(self.folder / VOCABULARY, place / VOCABULARY, ignore=shutil.ignore_patterns("*.lock", ".lock"))


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without what the package prints, which would stand among medge's results, and without the filters that it sets."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
