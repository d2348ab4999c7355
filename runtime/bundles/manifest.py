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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import BundleError, TrustError, one_line
from .bounds import (
    PARTS,
    FormatName,
    Label,
    Name,
    Sentence,
)
from .facts import (
    MAP_OUTPUT,
    MERGED,
    OWN_ROLES,
    Artefact,
    EncoderFacts,
    FileEntry,
    GeneratorFacts,
    Preprocessing,
    Source,
    TowerFacts,
    file_role,
)
from .gates import ParitySummary
from .typed_json import build, parse

FORMAT_VERSION = 2
MANIFEST = "manifest.json"
SIGNATURE = "model.sig"  # model-signing's own name; it signs the manifest, so the manifest can't list it
SEAL_BYTES = 83  # of `_seal`
MOST_BYTES = 16 << 20  # of a manifest; one with a thousand labels has a hundred thousand

LICENCE_NOTICE = (
    "MedSigLIP and MedGemma weights, and files derived from them, are governed by the Health AI Developer Foundations "
    "Terms of Use; Gemma weights by the Gemma Terms of Use. Whoever passes this bundle on must pass those terms on. "
    "Not a medical device: outputs need verification by a qualified person before any clinical use."
)


KindName = Literal["encoder", "generator"]
# The artefacts that this runtime opens; of several, the first.
OPENED: dict[KindName, tuple[FormatName, ...]] = {"encoder": ("onnx", "litert"), "generator": ("gguf",)}


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
    def opened(self) -> str | None:
        """The format that this runtime opens; None where the bundle holds packages for phones only."""
        return next((form for form in OPENED[self.kind] if form in self.artefacts), None)

    @property
    def towers(self) -> dict[str, TowerFacts]:
        """The parts that this runtime opens; none where the bundle holds packages for phones only."""
        return self.artefacts[self.opened].towers if self.opened else {}

    @property
    def status(self) -> str:
        """Parity of what this runtime opens, or of the only artefact: "passed", "failed" or "not measured"."""
        return self._parity.status if self._parity else "not measured"

    @property
    def verdict(self) -> str:
        """The status for people, to whom it matters whether something was lost: also "passed with a warning"."""
        return f"{self.status} with a warning" if self.status == "passed" and self.warnings else self.status

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was lost all the same, where parity passed with a warning: `ParityReport.warnings`."""
        return self._parity.warnings if self._parity else ()

    @property
    def parity_page(self) -> str:
        """The path of the page that says how far what this runtime opens is from the original."""
        entry = self.file(f"{self._shown}.parity.page") or self.file("parity.page")
        return entry.path if entry else "parity.html"

    @property
    def _shown(self) -> str | None:
        """The format that the bundle's status speaks of: the one that is opened, or the first."""
        return self.opened or next(iter(self.artefacts), None)

    @property
    def _parity(self) -> ParitySummary | None:
        return self.artefacts[self._shown].parity if self._shown else None

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
    def read(cls, folder: Path, *, sha256: str | None = None) -> Manifest:
        """Read and check `folder/manifest.json`.

        Args:
            folder: of the bundle.
            sha256: what a signature says that the file's hash is.

        Raises:
            BundleError: missing, damaged, changed, of another format, or of a kind that is not known.
            TrustError: its hash is another.
        """
        content = _content(folder, folder / MANIFEST)
        if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
            raise TrustError(f"{folder}: {MANIFEST} is not what was signed; copy the bundle again")
        return cls.parse(content, folder)

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
            said = f"bundle format {one_line(version, 40)}" if isinstance(version, int) else "no bundle format"
            raise BundleError(f"{folder} has {said}, this medge reads {FORMAT_VERSION}: {hint}")
        if content[-SEAL_BYTES:] != _seal(content[:-SEAL_BYTES]).encode():
            raise BundleError(f"{path} was changed after it was written; copy or export the bundle again")
        del body["digest"]
        if (kind := body.get("kind")) not in list(OPENED):  # a list: what a file says need not be hashable
            raise BundleError(
                f"{folder} is of the kind '{one_line(kind, 80)}', which this medge does not know: update medge"
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
    for own in (MANIFEST, SIGNATURE):
        if own in paths:
            raise ValueError(f"{own} can't be listed - at `$.files`")
    for form, artefact in manifest.artefacts.items():
        needed = _parts(manifest)
        if artefact.towers.keys() - needed[1] or needed[0] - artefact.towers.keys():
            said = " and ".join(sorted(artefact.towers)) or "none"
            raise ValueError(f"{said} is not what a model of this kind has - at `$.artefacts.{form}.towers`")
        for part, tower in artefact.towers.items():
            _check_tower(part, tower, manifest.files, f"$.artefacts.{form}.towers.{part}")
        if artefact.parity:
            artefact.parity.check(f"$.artefacts.{form}.parity")
    if manifest.teacher_parity:
        manifest.teacher_parity.check("$.teacher_parity")
    used = {tower.file for artefact in manifest.artefacts.values() for tower in artefact.towers.values()}
    for number, entry in enumerate(manifest.files):
        if entry.role in (*PARTS, *OWN_PARTS) and entry.path not in used:
            raise ValueError(f"no artefact uses the {entry.role} - at `$.files[{number}].role`")
    _check_facts(manifest)


def _parts(manifest: Manifest) -> tuple[set[str], set[str]]:
    """The parts that an artefact must have, and all that it may have."""
    if isinstance(manifest.model, EncoderFacts):
        return {"vision"}, {"vision", "text"}
    parts = {"language", "projector"} if manifest.model.image_tokens else {"language"}
    return parts, parts


OWN_PARTS = tuple(file_role(form, part) for form in OWN_ROLES for part in PARTS)
# By part: the names that the inputs of a graph or a package have.
_INPUTS = {
    "vision": ({"pixel_values"}, {"image"}), "projector": ({"pixel_values"},), "language": (),
    "text": ({"input_ids"}, {"input_ids", "attention_mask"}),
}  # fmt: skip


def _check_tower(part: str, tower: TowerFacts, files: tuple[FileEntry, ...], where: str) -> None:
    role = next((entry.role for entry in files if entry.path == tower.file), None)
    package = any(entry.path.startswith(f"{tower.file}/") for entry in files)
    if not (package if tower.format == "coreml" else role == file_role(tower.format, part)):
        raise ValueError(f"{tower.file!r} is not the {part} among the files - at `{where}.file`")
    if tower.format != "gguf" and (set(tower.inputs) not in _INPUTS[part] or not tower.output):
        raise ValueError(f"other inputs than a {part} part has, or no output - at `{where}.inputs`")
    if not isinstance(merged := tower.decisions.get(MERGED, 0), int) or isinstance(merged, bool) or merged < 0:
        raise ValueError(f"Expected `int` >= 0 - at `{where}.decisions.{MERGED}`")
    if MAP_OUTPUT in tower.decisions and not (isinstance(named := tower.decisions[MAP_OUTPUT], str) and named):
        raise ValueError(f"Expected a name - at `{where}.decisions.{MAP_OUTPUT}`")


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
