"""What a manifest says of its model, its files and how they were made: plain data with bounds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from .bounds import (
    Bias,
    BundlePath,
    Context,
    Count,
    Deviation,
    Fingerprints,
    FormatName,
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

MERGED = "merged_tokens_a_block"  # among a tower's decisions, where it merges any
MAP_OUTPUT = "map_output"  # among a vision tower's decisions, where it says what each patch gives to an embedding


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
        format: of that file: "onnx", "coreml", "litert" or "gguf".
        golden: what replaying the golden results is held against.
        inputs, output: of an ONNX graph, a CoreML package or a LiteRT signature, by name: "pixel_values" (or a package's
            "image"), or "input_ids" and maybe "attention_mask"; none of a GGUF.
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

    @property
    def map_output(self) -> str:
        """The ONNX output of what each patch gives to an embedding, (B, patches + 1, D); "" where there is none."""
        return str(self.decisions.get(MAP_OUTPUT, ""))


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
    """What a recipe was chosen or scaled on.

    Attributes:
        source: what to call it.
        images, texts: how many it was.
        fingerprints: of its images, eight hexadecimal digits each: whether another image is among them is seen by these, and
            none of them can be made out.
    """

    source: Sentence
    images: Count | None = None
    texts: Count | None = None
    fingerprints: Fingerprints | None = None


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


# Formats whose files play roles of their own, since they stand beside those of another format.
OWN_ROLES = ("litert",)


def file_role(format_: str, what: str) -> str:
    """The role that a file of a format plays in a bundle: of a part, or of an encoder's "golden" results."""
    return f"{format_}.{what}" if format_ in OWN_ROLES else what
