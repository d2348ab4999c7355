"""Every error that a user can cause.

MedgeError
├── CheckpointError      the weights folder is incomplete, of another architecture or unreadable
├── BundleError          a bundle is missing, half-written, changed or too new
│   └── ParityGateError  the bundle was measured and is too far from the original
├── TrustError           a signature, a key or a device's trust that is missing, wrong or damaged
├── RecipeError          a recipe, target or profile that does not exist or does not fit
├── ImageError           one image can't be read (others can)
├── LabelError           the label list is empty or malformed
├── IndexFileError       a vector index is of another model or damaged
├── ProbeError           a probe is of another model, or there is too little data to fit one
├── CalibrationError     scores can't be calibrated: too few images, or labels that the bundle does not have
├── GeneratorError       a language model can't do what was asked
│   ├── ModelEndedError  a language model's process ended by itself; the next question starts another
│   ├── ContextError     a prompt is longer than the context, or the context than memory
│   └── ToolError        an agent's tool is wrongly described, or was called wrongly
├── RecordError          not a FHIR R4 record
├── DistillationError    a student can't be trained: the loss is no number, teacher and student don't fit
├── CorpusError          texts, questions or captions that can't be read; names file and line
├── TaskError            an evaluation task that does not exist, a folder without its data, runs that can't be compared
├── StorageError         no space left, or a place that can't be written
│   └── PlaceTakenError  another medge is writing there
├── StationError         a station's folder that can't be used, or something that it does not hold
│   ├── StationFullError it takes no more objects until there is space
│   ├── ObjectRefusedError an object that is neither DICOM with its identifiers nor a picture, or too large
│   ├── PeerError        another system of the clinic can't be reached, or refused
│   ├── ConflictError     something can't be done to what the station holds as that stands now
│   └── ClaimLostError   a job is no longer this worker's: its lease ended, or it was cancelled
├── KitError             a kit or an installation that can't be made or used
└── MissingExtraError    an optional dependency is not installed
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path


class MedgeError(Exception):
    """Base of all errors that say what was wrong, where, and what to do. The CLI prints it and exits with 1."""


class CheckpointError(MedgeError):
    """A checkpoint folder that can't be used."""


class BundleError(MedgeError):
    """A bundle folder that can't be used."""


class ParityGateError(BundleError):
    """A bundle whose parity gate failed or was never measured, loaded without permission."""


class ParityWarning(UserWarning):
    """A bundle whose parity gates passed, and that lost something worth knowing all the same; the message says what."""


class TrustError(MedgeError):
    """A bundle or file that isn't signed by a key that the device trusts, or a key or trust folder that can't be used."""


class TrustWarning(UserWarning):
    """A bundle or file that the device's policy lets pass though its signature does not hold; the message says why."""


class RecipeError(MedgeError):
    """An unknown recipe, target or profile, or one that does not fit the model."""


class ImageError(MedgeError):
    """An image that can't be read."""


class LabelError(MedgeError):
    """A label list that can't be used."""


class IndexFileError(MedgeError):
    """A vector index that can't be used."""


class ProbeError(MedgeError):
    """A probe that can't be fitted or applied."""


class CalibrationError(MedgeError):
    """Scores that can't be calibrated: too few images, or labels that the bundle does not have."""


class GeneratorError(MedgeError):
    """A language model that can't do what was asked."""


class ModelEndedError(GeneratorError):
    """A language model's process that ended by itself in an answer; the next question starts another."""


class ContextError(GeneratorError):
    """A prompt longer than the context, or a context longer than memory allows."""


class ToolError(GeneratorError):
    """A tool that an agent can't use."""


class RecordError(MedgeError):
    """A record that is not FHIR R4."""


class DistillationError(MedgeError):
    """A student that can't be trained."""


class CorpusError(MedgeError):
    """Texts, questions or captions that can't be read."""


class TaskError(MedgeError):
    """An evaluation task that does not exist, a folder that does not hold its data, or runs that can't be compared."""


class StorageError(MedgeError):
    """The file system refused."""


class PlaceTakenError(StorageError):
    """A place that another process, or another thread of this one, is writing."""


class StationError(MedgeError):
    """A station's folder that can't be used, or something that it does not hold."""


class StationFullError(StationError):
    """The station takes no more objects until there is space; what it has is safe. HTTP 507, DICOM 0xA700."""


class ObjectRefusedError(StationError):
    """An object that will never be taken: neither DICOM with its identifiers nor a picture, or too large. HTTP 415 or 413."""


class PeerError(StationError):
    """Another system of the clinic, such as its PACS, can't be reached, or refused what it was asked."""


class ConflictError(StationError):
    """Something can't be done to what the station holds as that stands now: to sign what is signed. HTTP 409."""


class ClaimLostError(StationError):
    """A job is no longer this worker's: its lease ended, or it was cancelled. What the worker made of it does not count."""


class KitError(MedgeError):
    """A kit on a stick, or an installation made of one, that can't be made or used."""


class MissingExtraError(MedgeError):
    """An optional dependency that is not installed."""

    def __init__(self, module: str, extra: str) -> None:
        super().__init__(f"this needs the package {module!r}: pip install 'medge[{extra}]'")


@contextlib.contextmanager
def naming_extra(extra: str) -> Iterator[None]:
    """Turn the import of a package that is not installed into a `MissingExtraError` that names the extra it comes with."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("medge"):
            raise
        raise MissingExtraError(error.name.split(".")[0], extra) from error


def one_line(said: object, most: int = 300) -> str:
    """What a library says or a file holds, as it may stand in an error: one line, not too long, nothing that a terminal obeys."""
    text = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in str(said))
    return text if len(text) <= most else f"{text[: most // 2]}...{text[-most // 2 :]}"


def fault_of(error: BaseException) -> str:
    """What failed where, without what it says, which may name a patient: "ImageError medge.runtime.pictures.dicom:212".

    The place is the innermost of medge's own lines.
    """
    place, step = "", error.__traceback__
    while step is not None:
        module = str(step.tb_frame.f_globals.get("__name__", ""))
        if module.startswith("medge."):
            place = f" {module}:{step.tb_lineno}"
        step = step.tb_next
    return type(error).__name__ + place


_FULL = {errno.ENOSPC: "no space left", errno.EDQUOT: "the disk quota is used up", errno.EFBIG: "the file is too large"}
# What libraries that write by code of their own say in the place of an `OSError`: safetensors, numpy, PyTorch.
_NATIVELY_FULL = (
    "No space left on device",
    "os error 28",
    " requested and ",
    "PytorchStreamWriter failed",
    "unexpected pos",
)


NOTHING_LEFT = "nothing was left under the final name"
GOES_ON = "what was written before is kept, and the same command goes on"


@contextlib.contextmanager
def storage_errors(place: Path, then: str = NOTHING_LEFT) -> Iterator[None]:
    """Turn a file system's refusal to write at `place` into a `StorageError`, which ends with what became of the work: `then`.

    An `OSError` about another file, such as one that is only read, passes: it is not about what is being written.
    """
    try:
        yield
    except MedgeError:
        raise
    except OSError as error:
        full = _FULL.get(error.errno or 0)
        if error.errno is None and any(text in str(error) for text in _NATIVELY_FULL):
            full = _FULL[errno.ENOSPC]
        if not (full or _is_about(error, place.absolute())):
            raise
        reason = full or error.strerror or str(error)
        raise _refused(place, reason, then) from error
    except Exception as error:
        if not any(text in str(error) for text in _NATIVELY_FULL):
            raise
        raise _refused(place, "no space left, or the disk refuses", then) from error


def _refused(place: Path, reason: str, then: str) -> StorageError:
    return StorageError(f"writing {place}: {reason}; {then}")


def _is_about(error: OSError, place: Path) -> bool:
    """Whether an error names `place`, a folder above it, or something of the same folder whose name begins with its name, as
    temporary names do (with a dot before it)."""
    if error.filename is None or not isinstance(error.filename, str | bytes | os.PathLike):
        return error.filename is None and error.errno is not None
    named = Path(os.fsdecode(error.filename)).absolute()
    own = [named, *named.parents]
    return (
        named in place.parents
        or place in own
        or any(step.parent == place.parent and step.name.startswith(f".{place.name}.") for step in own)
    )
