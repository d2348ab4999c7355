"""Closed lists: what a station's store says is told only where it is one of these words.

A store holds what devices, people and other systems have written, in every text field. A word that is on a list here is medge's
own or DICOM's, whoever wrote it.
"""

from __future__ import annotations

import builtins
import re
from functools import cache
from pathlib import Path

from ... import errors
from ...station.reading.intake import CLASSIFY, DELIVER, REPORT

KINDS = frozenset({CLASSIFY, REPORT, DELIVER})
STATES = ("waiting", "running", "done", "parked", "cancelled")
OTHER = "other"
MODALITIES = frozenset({
    "AR", "BI", "BMD", "CR", "CT", "DG", "DX", "ECG", "ES", "EPS", "FID", "GM", "HC", "HD", "IO", "IVOCT", "IVUS",
    "KER", "LEN", "LS", "MG", "MR", "NM", "OAM", "OCT", "OP", "OPM", "OPR", "OPT", "OPV", "OT", "PR", "PT", "PX",
    "REG", "RF", "RG", "RTDOSE", "RTIMAGE", "RTPLAN", "RTRECORD", "RTSTRUCT", "RWV", "SEG", "SM", "SMR", "SR", "SRF",
    "TG", "US", "VA", "XA", "XC",
})  # fmt: skip
PACKAGES = (
    "numpy", "onnxruntime", "llama-cpp-python", "pillow", "pydicom", "tokenizers", "safetensors", "msgspec", "usearch",
    "python-gdcm", "pylibjpeg-openjpeg", "fastapi", "uvicorn", "pynetdicom", "highdicom", "cryptography",
)  # fmt: skip
DISTRIBUTIONS = frozenset({
    "debian", "ubuntu", "raspbian", "fedora", "rhel", "centos", "rocky", "almalinux", "opensuse-leap", "sles", "arch",
    "alpine", "linuxmint", "nixos",
})  # fmt: skip
_VERSION = re.compile(r"[0-9][0-9A-Za-z.+!-]{0,39}")
_NUMBER = re.compile(r"[0-9]{1,4}(\.[0-9]{1,3}){0,3}")
_FAULT = re.compile(
    r"(?P<error>[A-Za-z_][A-Za-z0-9_]*)( (?P<place>(?P<module>medge(\.[a-z0-9_]+)+):(?P<line>[0-9]{1,5})))?"
)


def version(said: str) -> str:
    """A package's version; "" of a text that is none."""
    return said if _VERSION.fullmatch(said) else ""


def number(said: str) -> str:
    """A release's number, such as "24.04"; "" of a text that is none."""
    return said if _NUMBER.fullmatch(said) else ""


def modality(said: str) -> str:
    """One of DICOM's; else "other"."""
    return said if said in MODALITIES else OTHER


def fault(said: str) -> tuple[str, str]:
    """(type, place) of what `errors.fault_of` has written; each is "other" or "" where it is not of medge's own or Python's."""
    found = _FAULT.fullmatch(said)
    if found is None:
        return OTHER, ""
    error = found["error"] if found["error"] in _types() else OTHER
    lines = _lines().get(found["module"] or "", 0)
    return error, found["place"] if found["place"] and int(found["line"]) <= lines else ""


@cache
def _types() -> frozenset[str]:
    """Names of errors: medge's, Python's, and those of what a station computes with."""
    own = {name for name in dir(errors) if name.endswith("Error")}
    python = {name for name, one in vars(builtins).items() if isinstance(one, type) and issubclass(one, Exception)}
    return frozenset(own | python | {"DatabaseError", "OperationalError", "IntegrityError", "Fail", "InvalidArgument"})


@cache
def _lines() -> dict[str, int]:
    """{module: how many lines} of medge."""
    root = Path(__file__).parents[3]
    found = {}
    for room in ("runtime", "export", "quant"):
        for path in (root / room).rglob("*.py"):
            name = ".".join(("medge", *path.relative_to(root).with_suffix("").parts)).removesuffix(".__init__")
            with path.open("rb") as stream:
                found[name] = sum(1 for _ in stream)
    return found
