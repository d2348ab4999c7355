"""The manifest of a bundle: plain data, written as `manifest.json`.

The format is versioned by `FORMAT_VERSION`. A reader accepts its own version and older ones. The file's last member,
`digest`, is the SHA-256 of the bytes before it, so that a byte changed in the manifest itself is noticed as well. It takes
the last `SEAL_BYTES` bytes, whatever stands before them: a reader in another language hashes what it has read, and needs
no JSON writer that agrees with Python's.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import BundleError

FORMAT_VERSION = 1
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
    """One file: its path inside the bundle, what it is for, its size in bytes and its SHA-256."""

    path: str
    role: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class EncoderFacts:
    """What the runtime must know of an image-text encoder without opening a file."""

    architecture: str
    embedding_size: int
    image_size: int
    patch_size: int
    text_length: int
    vocabulary: int
    logit_scale: float  # already exponentiated: logit = scale * cosine + bias
    logit_bias: float
    parameters: int


@dataclass(frozen=True)
class GeneratorFacts:
    """What the runtime must know of a language model: enough to plan memory before a file is opened.

    Attributes:
        architecture: "gemma3".
        parameters: of the language model and, where there is one, of tower and projector.
        layers, kv_heads, head_size: what the key-value cache is made of.
        window, global_every: attention of a layer reaches `window` tokens back, except in every `global_every`-th.
        context_length: what it was trained for.
        image_size, image_tokens: pixels of a side, tokens of an image; 0 where the model reads text only.
        stop_ids: tokens that end an answer.
    """

    architecture: str
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
class TowerFacts:
    """How one part of a bundle was made.

    Attributes:
        recipe, file: its recipe and its main file.
        opset: of an ONNX graph; 0 for GGUF.
        batch_invariant: whether a batch gives what single inputs give.
        decisions: what the recipe decided for this model.
    """

    recipe: str
    file: str
    opset: int = 0
    batch_invariant: bool = True
    decisions: dict[str, Any] = field(default_factory=dict)

    @property
    def merged(self) -> int:
        """Similar patches that each block merges."""
        return int(self.decisions.get(MERGED, 0))


@dataclass(frozen=True)
class Manifest:
    """Everything that stands in `manifest.json`.

    `towers` are what this runtime opens (ONNX or GGUF); `packages` the same towers for CoreML, measured by themselves.
    `teacher_parity` says how near a student comes to the teacher that it was distilled from.
    """

    name: str
    model: EncoderFacts | GeneratorFacts
    profile: str
    target: str
    source: dict[str, Any]
    towers: dict[str, TowerFacts]
    files: tuple[FileEntry, ...] = ()
    labels: tuple[str, ...] = ()
    parity: dict[str, Any] | None = None
    packages: dict[str, TowerFacts] = field(default_factory=dict)
    packages_parity: dict[str, Any] | None = None
    teacher_parity: dict[str, Any] | None = None
    licence: str = LICENCE_NOTICE
    medge_version: str = ""
    format_version: int = FORMAT_VERSION

    def file(self, role: str) -> FileEntry | None:
        """The file that plays `role`, or None."""
        return next((entry for entry in self.files if entry.role == role), None)

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
            BundleError: missing, damaged, changed, or of a newer format.
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
            raise BundleError(
                f"{folder} has bundle format {version}, this medge reads up to {FORMAT_VERSION}: update medge"
            )
        if content[-SEAL_BYTES:] != _seal(content[:-SEAL_BYTES]).encode():
            raise BundleError(f"{path} was changed after it was written; copy or export the bundle again")
        del body["digest"]
        try:
            facts = body["model"]
            if "stop_ids" in facts:
                body["model"] = GeneratorFacts(**{**facts, "stop_ids": tuple(facts["stop_ids"])})
            else:
                body["model"] = EncoderFacts(**facts)
            body["towers"] = {name: TowerFacts(**facts) for name, facts in body["towers"].items()}
            body["packages"] = {name: TowerFacts(**facts) for name, facts in body.get("packages", {}).items()}
            body["files"] = tuple(FileEntry(**entry) for entry in body["files"])
            body["labels"] = tuple(body["labels"])
            return cls(**body)
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
