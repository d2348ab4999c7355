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
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..errors import BundleError
from .bounds import (
    Bias,
    BundlePath,
    Context,
    Count,
    Deviation,
    FormatName,
    Label,
    Mean,
    Name,
    Opset,
    Part,
    Positive,
    Role,
    Scale,
    Sentence,
    Sha256,
    Share,
    Side,
    SideOrNone,
    Size,
    TokenId,
    Vocabulary,
)
from .gates import ParitySummary
from .typed_json import build, parse

FORMAT_VERSION = 2
MANIFEST = "manifest.json"
SEAL_BYTES = 83  # of `_seal`
MOST_BYTES = 16 << 20  # of a manifest; one with a thousand labels has a hundred thousand
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

    path: BundlePath
    role: Role
    bytes: Count
    sha256: Sha256


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes numbers.

    Attributes:
        profile: how it is resized, one of `pictures.preprocess.PROFILES`.
        mean, std: of each colour channel; the model reads (grey level / 255 - mean) / std.
    """

    profile: Name
    mean: tuple[Mean, Mean, Mean]
    std: tuple[Deviation, Deviation, Deviation]


@dataclass(frozen=True)
class TokenizerFacts:
    """How `tokenizer.json`'s ids become a row of the text tower's input.

    Attributes:
        length: ids in a row.
        end_id: ends a text, also where it is cut.
        pad_id: fills the row behind it.
    """

    length: Size
    end_id: TokenId
    pad_id: TokenId


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

    family: Name
    embedding_size: Size
    image_size: Side
    patch_size: Side
    vocabulary: Vocabulary
    tokenizer: TokenizerFacts
    logit_scale: Scale
    logit_bias: Bias
    parameters: Positive
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

    family: Name
    parameters: Positive
    layers: Size
    width: Size
    kv_heads: Size
    head_size: Size
    window: Context
    global_every: Size
    context_length: Context
    vocabulary: Vocabulary
    image_size: SideOrNone
    image_tokens: Count
    patch_size: SideOrNone
    stop_ids: tuple[TokenId, ...]


@dataclass(frozen=True)
class GoldenBound:
    """How near a device must come to the golden results.

    Attributes:
        statistic: of the cosines of all of them: the least, or the mean.
        cosine: what it must reach.
    """

    statistic: Literal["min", "mean"]
    cosine: Share


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

    recipe: Name
    file: BundlePath
    format: FormatName
    golden: GoldenBound
    inputs: tuple[Name, ...] = ()
    output: Sentence = ""
    opset: Opset = 0
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
        parity: how far from it; None where it was not measured.
    """

    towers: dict[Part, TowerFacts]
    parity: ParitySummary | None = None

    @property
    def recipes(self) -> dict[str, str]:
        """{part: recipe}."""
        return {part: tower.recipe for part, tower in self.towers.items()}


@dataclass(frozen=True)
class Calibration:
    """What a recipe was chosen or scaled on: what to call it, and how many images or texts it was."""

    source: Sentence
    images: Count | None = None
    texts: Count | None = None


@dataclass(frozen=True)
class Teacher:
    """A checkpoint that a student was distilled from: its name and {file: SHA-256}."""

    name: Name
    sha256: dict[Name, Sha256]


@dataclass(frozen=True)
class Source:
    """What a bundle was made from, and for.

    Attributes:
        name: of the checkpoint's folder.
        sha256: {file: SHA-256} of the checkpoint: its configuration and its weights.
        target_reason: why this target.
        calibration: None where nothing was calibrated.
        teacher: None where the checkpoint is no student.
    """

    name: Name
    sha256: dict[Name, Sha256]
    target_reason: Sentence
    calibration: Calibration | None = None
    teacher: Teacher | None = None


KindName = Literal["encoder", "generator"]
OPENED: dict[KindName, str] = {"encoder": "onnx", "generator": "gguf"}  # the artefact that this runtime opens


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
        source: what it was made from.
        files: every file but the manifest.
        labels: names of the labels that are baked in.
        teacher_parity: how near a student comes to the teacher that it was distilled from.
        licence: the notice that goes on with the bundle.
        medge_version: what made it.
        format_version: of this format.
    """

    kind: KindName
    name: Name
    model: EncoderFacts | GeneratorFacts
    preprocessing: Preprocessing | None
    target: Name
    source: Source
    artefacts: dict[FormatName, Artefact]
    files: tuple[FileEntry, ...] = ()
    labels: tuple[Label, ...] = ()
    teacher_parity: ParitySummary | None = None
    licence: Sentence = LICENCE_NOTICE
    medge_version: Sentence = ""
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
        return opened.parity.status if opened and opened.parity else "not measured"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was lost all the same, where parity passed with a warning: `ParityReport.warnings`."""
        opened = self.artefacts.get(OPENED[self.kind]) or next(iter(self.artefacts.values()), None)
        return opened.parity.warnings if opened and opened.parity else ()

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
        return cls.parse(_content(folder, folder / MANIFEST), folder)

    @classmethod
    def parse(cls, content: bytes, folder: Path) -> Manifest:
        """The manifest that these bytes of `folder/manifest.json` are; raises as `read` does."""
        path = folder / MANIFEST
        try:
            body = parse(content)
        except ValueError as error:
            raise BundleError(f"{path} is damaged ({error}); copy the bundle again") from error
        version = body.get("format_version")
        if version != FORMAT_VERSION or isinstance(version, bool):
            newer = isinstance(version, int) and version > FORMAT_VERSION
            hint = "update medge" if newer else "export the bundle again"
            said = f"bundle format {version}" if isinstance(version, int) else "no bundle format"
            raise BundleError(f"{folder} has {said}, this medge reads {FORMAT_VERSION}: {hint}")
        if content[-SEAL_BYTES:] != _seal(content[:-SEAL_BYTES]).encode():
            raise BundleError(f"{path} was changed after it was written; copy or export the bundle again")
        del body["digest"]
        if (kind := body.get("kind")) not in ("encoder", "generator"):
            raise BundleError(
                f"{folder} is of the kind {str(kind)[:80]!r}, which this medge does not know: update medge"
            )
        try:
            found = build(_READ_AS[kind], body)
            manifest = cls(**{one.name: getattr(found, one.name) for one in dataclasses.fields(cls)})
            check(manifest)
        except ValueError as error:
            raise BundleError(f"{path} lacks or misnames a field ({error}); export the bundle again") from error
        return manifest


@dataclass(frozen=True)
class _OfEncoder(Manifest):
    model: EncoderFacts


@dataclass(frozen=True)
class _OfGenerator(Manifest):
    model: GeneratorFacts


_READ_AS: dict[KindName, type[Manifest]] = {"encoder": _OfEncoder, "generator": _OfGenerator}


# Roles that several files of a bundle may play; every other is played by one.
_SHARED_ROLES = ("vision.data", "text.data", "projector.data", "package.vision", "package.text", "package.swift", "web.page",
                 "web.vendor")  # fmt: skip


def _content(folder: Path, path: Path) -> bytes:
    """The bytes of a manifest; refuses what is no regular file, or too large for one."""
    try:
        facts = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        what = "is not a folder" if not folder.is_dir() else f"has no {MANIFEST}, so it is no complete bundle"
        raise BundleError(f"{folder} {what}; make one with 'medge export'") from None
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} can't be read ({error}); copy the bundle again") from error
    if not stat.S_ISREG(facts.st_mode):
        raise BundleError(f"{path} is no regular file; copy the bundle again, without links")
    if facts.st_size > MOST_BYTES:
        raise BundleError(f"{path} has {facts.st_size} bytes, a manifest at most {MOST_BYTES}; copy the bundle again")
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} can't be read ({error.strerror}); copy the bundle again") from error


def check(manifest: Manifest) -> None:
    """Check what holds between fields.

    Raises:
        ValueError: something contradicts something else; the message names the field.
    """
    paths, roles = [entry.path for entry in manifest.files], [entry.role for entry in manifest.files]
    for where, values in (
        ("files", [path.casefold() for path in paths]), ("labels", manifest.labels),
        ("files", [role for role in roles if role not in _SHARED_ROLES]),
    ):  # fmt: skip
        if twice := next((value for value in values if values.count(value) > 1), None):
            raise ValueError(f"{twice!r} is there twice - at `$.{where}`")
    if MANIFEST in paths:
        raise ValueError(f"{MANIFEST} can't list itself - at `$.files`")
    for form, artefact in manifest.artefacts.items():
        for part, tower in artefact.towers.items():
            _check_tower(tower, paths, f"$.artefacts.{form}.towers.{part}")
        if artefact.parity:
            artefact.parity.check(f"$.artefacts.{form}.parity")
    if manifest.teacher_parity:
        manifest.teacher_parity.check("$.teacher_parity")
    _check_facts(manifest)


def _check_tower(tower: TowerFacts, paths: list[str], where: str) -> None:
    if tower.file not in paths and not any(path.startswith(f"{tower.file}/") for path in paths):
        raise ValueError(f"{tower.file!r} is not among the files - at `{where}.file`")
    if not isinstance(merged := tower.decisions.get(MERGED, 0), int) or isinstance(merged, bool) or merged < 0:
        raise ValueError(f"Expected `int` >= 0 - at `{where}.decisions.{MERGED}`")
    if tower.format == "onnx" and not (tower.inputs and tower.output):
        raise ValueError(f"an ONNX graph has inputs and an output - at `{where}`")


def _check_facts(manifest: Manifest) -> None:
    model = manifest.model
    if isinstance(model, EncoderFacts):
        ids = {"end_id": model.tokenizer.end_id, "pad_id": model.tokenizer.pad_id}
        named = {f"tokenizer.{name}": token for name, token in ids.items()}
    else:
        named = {f"stop_ids[{place}]": token for place, token in enumerate(model.stop_ids)}
    for name, token in named.items():
        if token >= model.vocabulary:
            raise ValueError(f"{token} is no token of {model.vocabulary} - at `$.model.{name}`")
    if model.patch_size > model.image_size:
        raise ValueError("a patch is larger than the image - at `$.model.patch_size`")
    sees = isinstance(model, EncoderFacts) or model.image_tokens > 0
    if sees != (manifest.preprocessing is not None):
        raise ValueError(f"{'missing' if sees else 'not for a model that reads text only'} - at `$.preprocessing`")
    if sees and not model.patch_size:
        raise ValueError("a model that reads images has patches - at `$.model.patch_size`")


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
