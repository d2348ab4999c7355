"""The manifest of a bundle: plain data, written as `manifest.json`.

The format is versioned by `FORMAT_VERSION`; a bundle of another version is refused. What a runtime in another language needs
(the normalisation, the tokenizer's end, the names of inputs and outputs, the golden bounds) stands here, so that it holds no copy
of its own. The file's last member, `digest`, is the SHA-256 of the bytes before it, so that a byte changed in the manifest itself
is noticed as well. It takes the last `SEAL_BYTES` bytes, whatever stands before them: a reader in another language hashes what it
has read, and needs no JSON writer that agrees with Python's.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..errors import BundleError
from .typed_json import build

FORMAT_VERSION = 2
MANIFEST = "manifest.json"
SEAL_BYTES = 83  # of `_seal`
MERGED = "merged_tokens_a_block"  # among a tower's decisions, where it merges any

LICENCE_NOTICE = (
    "MedSigLIP and MedGemma weights, and files derived from them, are governed by the Health AI Developer Foundations "
    "Terms of Use; Gemma weights by the Gemma Terms of Use. Whoever passes this bundle on must pass those terms on. "
    "Not a medical device: outputs need verification by a qualified person before any clinical use."
)


@dataclass(frozen=True)
class FileEntry:
    """One file of a bundle.

    Attributes:
        path: inside the bundle, with forward slashes.
        role: what it is for.
        bytes: its size.
        sha256: of its content, as 64 hexadecimal digits.
    """

    path: str
    role: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes numbers.

    Attributes:
        profile: how it is resized, one of `pictures.preprocess.PROFILES`.
        mean, std: of each colour channel; the model reads (grey level / 255 - mean) / std.
    """

    profile: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class TokenizerFacts:
    """How `tokenizer.json`'s ids become a row of the text tower's input.

    Attributes:
        length: ids in a row.
        end_id: ends a text, also where it is cut.
        pad_id: fills the row behind it.
    """

    length: int
    end_id: int
    pad_id: int


@dataclass(frozen=True)
class EncoderFacts:
    """What the runtime must know of an image-text encoder without opening a file.

    Attributes:
        family: as in `export.families`.
        embedding_size: numbers of an embedding.
        image_size, patch_size: pixels of a side, of the image and of a patch.
        vocabulary: how many token ids there are.
        tokenizer: how a text becomes a row of ids.
        logit_scale: already exponentiated: logit = scale * cosine + bias.
        logit_bias: that bias; 0 of a family without one.
        parameters: of the checkpoint, both towers.
        sigmoid: whether a logit's sigmoid says whether a label holds, whatever the others; not of a family that was trained to
            choose among texts (CLIP's softmax).
    """

    family: str
    embedding_size: int
    image_size: int
    patch_size: int
    vocabulary: int
    tokenizer: TokenizerFacts
    logit_scale: float
    logit_bias: float
    parameters: int
    sigmoid: bool = True


@dataclass(frozen=True)
class GeneratorFacts:
    """What the runtime must know of a language model: enough to plan memory before a file is opened.

    Attributes:
        family: "gemma3".
        parameters: of the language model and, where there is one, of tower and projector.
        layers, kv_heads, head_size: what the key-value cache is made of.
        width: numbers of a token's state.
        window, global_every: attention of a layer reaches `window` tokens back, except in every `global_every`-th.
        context_length: what it was trained for, in tokens.
        vocabulary: how many token ids there are.
        image_size, image_tokens: pixels of a side, tokens of an image; 0 where the model reads text only.
        patch_size: pixels of a patch's side; 0 likewise.
        stop_ids: tokens that end an answer.
    """

    family: str
    parameters: int
    layers: int
    width: int
    kv_heads: int
    head_size: int
    window: int
    global_every: int
    context_length: int
    vocabulary: int
    image_size: int
    image_tokens: int
    patch_size: int
    stop_ids: tuple[int, ...]


@dataclass(frozen=True)
class GoldenBound:
    """How near a device must come to the golden results.

    Attributes:
        statistic: of the cosines of all of them: the least, or the mean.
        cosine: what it must reach.
    """

    statistic: Literal["min", "mean"]
    cosine: float


@dataclass(frozen=True)
class TowerFacts:
    """How one part of a bundle was made, and how it is called.

    Attributes:
        recipe, file: its recipe and its main file.
        format: of that file: "onnx", "coreml" or "gguf".
        golden: what replaying the golden results is held against.
        inputs, output: of an ONNX graph or a CoreML package, by name: "pixel_values" (or a package's "image"), or "input_ids"
            and maybe "attention_mask"; none of a GGUF.
        opset: of an ONNX graph, else 0.
        batch_invariant: whether a batch gives what single inputs give.
        decisions: what the recipe decided for this model.
    """

    recipe: str
    file: str
    format: str
    golden: GoldenBound
    inputs: tuple[str, ...] = ()
    output: str = ""
    opset: int = 0
    batch_invariant: bool = True
    decisions: dict[str, Any] = field(default_factory=dict)

    @property
    def merged(self) -> int:
        """Similar patches that each block merges."""
        return int(self.decisions.get(MERGED, 0))


@dataclass(frozen=True)
class Artefact:
    """What one format holds of the model, and how far it is from the original.

    Attributes:
        towers: {part: how it was made}.
        parity: `ParityReport.summary()`; None where it was not measured.
    """

    towers: dict[str, TowerFacts]
    parity: dict[str, Any] | None = None

    @property
    def recipes(self) -> dict[str, str]:
        """{part: recipe}."""
        return {part: tower.recipe for part, tower in self.towers.items()}


KindName = Literal["encoder", "generator"]
OPENED: dict[KindName, str] = {"encoder": "onnx", "generator": "gguf"}  # the artefact that this runtime opens
_FACTS: dict[KindName, type[EncoderFacts] | type[GeneratorFacts]] = {
    "encoder": EncoderFacts, "generator": GeneratorFacts,
}  # fmt: skip


@dataclass(frozen=True)
class Manifest:
    """Everything that stands in `manifest.json`.

    Attributes:
        kind: what the bundle is: "encoder" or "generator".
        name: the name of the folder that it was made as.
        model: the facts of its kind.
        artefacts: {format: what was made in it}; an artefact is named by the format of its main part.
        preprocessing: None where the model reads text only.
        target: the CPU whose kernels its number formats suit, or "any".
        source: name and hashes of the checkpoint, calibration, teacher.
        files: every file but the manifest.
        labels: names of the labels that are baked in.
        teacher_parity: how near a student comes to the teacher that it was distilled from.
        licence: the notice that goes on with the bundle.
        medge_version: what made it.
        format_version: of this format.
    """

    kind: KindName
    name: str
    model: EncoderFacts | GeneratorFacts
    preprocessing: Preprocessing | None
    target: str
    source: dict[str, Any]
    artefacts: dict[str, Artefact]
    files: tuple[FileEntry, ...] = ()
    labels: tuple[str, ...] = ()
    teacher_parity: dict[str, Any] | None = None
    licence: str = LICENCE_NOTICE
    medge_version: str = ""
    format_version: int = FORMAT_VERSION

    def file(self, role: str) -> FileEntry | None:
        """The file that plays `role`, or None."""
        return next((entry for entry in self.files if entry.role == role), None)

    @property
    def towers(self) -> dict[str, TowerFacts]:
        """The parts that this runtime opens; none where the bundle holds packages for phones only."""
        opened = self.artefacts.get(OPENED[self.kind])
        return opened.towers if opened else {}

    @property
    def status(self) -> str:
        """Parity of what this runtime opens, or of the only artefact: "passed", "failed" or "not measured"."""
        opened = self.artefacts.get(OPENED[self.kind]) or next(iter(self.artefacts.values()), None)
        return str(opened.parity["status"]) if opened and opened.parity else "not measured"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was lost all the same, where parity passed with a warning: `ParityReport.warnings`."""
        opened = self.artefacts.get(OPENED[self.kind]) or next(iter(self.artefacts.values()), None)
        return tuple(opened.parity.get("warnings", ())) if opened and opened.parity else ()

    @property
    def profile(self) -> str:
        """The name of the preprocessing profile.

        Raises:
            BundleError: the model reads text only.
        """
        if self.preprocessing is None:
            raise BundleError(f"{self.name} reads text only")
        return self.preprocessing.profile

    def with_artefact(self, form: str, artefact: Artefact) -> Manifest:
        """The same with one artefact added or replaced."""
        return dataclasses.replace(self, artefacts={**self.artefacts, form: artefact})

    @property
    def encoder(self) -> EncoderFacts:
        """The facts of an encoder.

        Raises:
            BundleError: the bundle holds a language model.
        """
        if not isinstance(self.model, EncoderFacts):
            raise BundleError(f"{self.name} holds a language model: use it with 'medge ask' or 'medge chat'")
        return self.model

    @property
    def generator(self) -> GeneratorFacts:
        """The facts of a language model.

        Raises:
            BundleError: the bundle holds an encoder.
        """
        if not isinstance(self.model, GeneratorFacts):
            raise BundleError(f"{self.name} holds an image-text encoder: use it with 'medge classify' or 'medge embed'")
        return self.model

    def to_json(self) -> str:
        """The text of `manifest.json`: UTF-8, lines end with a line feed, `digest` comes last."""
        text = json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False).removesuffix("\n}")
        return text + _seal(text.encode())

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read and check `folder/manifest.json`.

        Raises:
            BundleError: missing, damaged, changed, of another format, or of a kind that is not known.
        """
        path = folder / MANIFEST
        if not path.is_file():
            what = "is not a folder" if not folder.is_dir() else f"has no {MANIFEST}, so it is no complete bundle"
            raise BundleError(f"{folder} {what}; make one with 'medge export'")
        try:
            content = path.read_bytes()
            body = json.loads(content)
            version = int(body["format_version"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BundleError(f"{path} is damaged ({error}); copy the bundle again") from error
        if version > FORMAT_VERSION:
            raise BundleError(f"{folder} has bundle format {version}, this medge reads {FORMAT_VERSION}: update medge")
        if version < FORMAT_VERSION:
            raise BundleError(
                f"{folder} has bundle format {version}, this medge reads {FORMAT_VERSION}: export the bundle again"
            )
        if content[-SEAL_BYTES:] != _seal(content[:-SEAL_BYTES]).encode():
            raise BundleError(f"{path} was changed after it was written; copy or export the bundle again")
        del body["digest"]
        if (kind := body.get("kind")) not in _FACTS:
            raise BundleError(f"{folder} is of the kind {kind!r}, which this medge does not know: update medge")
        try:
            facts = _FACTS[kind]
            return build(cls, {**body, "model": build(facts, body["model"])})
        except (TypeError, KeyError) as error:
            raise BundleError(f"{path} lacks or misnames a field ({error}); export the bundle again") from error


def _seal(before: bytes) -> str:
    """How a manifest ends whose other bytes are `before`."""
    return f',\n  "digest": "{hashlib.sha256(before).hexdigest()}"\n}}\n'


def sha256_json(body: Any) -> str:
    """SHA-256 of a JSON value, as hexadecimal digits; the order of an object's keys does not matter."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
