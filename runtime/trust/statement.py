"""What a signature says about files: model-signing's in-toto statement, a list of names with their SHA-256.

Of a folder the names are paths within it; a single file is named ".".
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..bundles.bounds import BundlePath
from ..bundles.typed_json import parse
from ..errors import TrustError, one_line

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://model_signing/signature/v1.0"  # a name, not an address
ITSELF = "."  # the name of a single file
_PATH = re.compile(BundlePath.__metadata__[0].pattern)  # type: ignore[attr-defined]  # of typing.Annotated
_SHA256 = re.compile(r"[0-9a-f]{64}")


def make(name: str, files: Mapping[str, str], ignored: tuple[str, ...] = ()) -> bytes:
    """The payload that says that these are the files of `name`.

    Args:
        name: of the bundle's folder, or of the file.
        files: {path: SHA-256 in hexadecimal digits}.
        ignored: paths that are no part of what is signed: the signature's own.
    """
    listed = sorted(files.items(), key=lambda pair: pair[0].split("/"))
    body = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": _root(digest for _, digest in listed)}}],
        "predicateType": PREDICATE,
        "predicate": {
            "serialization": {
                "method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": list(ignored),
            },
            "resources": [{"name": path, "algorithm": "sha256", "digest": digest} for path, digest in listed],
        },
    }  # fmt: skip
    return json.dumps(body, indent=1).encode()


def read(payload: bytes, path: Path) -> dict[str, str]:
    """{path: SHA-256} that a payload says; `path` is of the signature, for the error.

    Raises:
        TrustError: it is no such statement, or one by other rules: other hashes, pieces of files, links that are followed.
    """
    try:
        return _files(parse(payload))
    except (ValueError, KeyError, TypeError) as error:
        said = f"'{one_line(error.args[0], 80)}' is missing" if isinstance(error, KeyError) else one_line(error)
        raise TrustError(
            f"{path} signs something that medge does not read ({said}); sign again with 'medge keys sign'"
        ) from error


def _files(body: dict[str, Any]) -> dict[str, str]:
    if body["_type"] != STATEMENT or body["predicateType"] != PREDICATE:
        raise ValueError("no list of a model's files")
    how = body["predicate"]["serialization"]
    if how["method"] != "files" or how["hash_type"] != "sha256" or how.get("allow_symlinks", False) is not False:
        raise ValueError("medge reads SHA-256 of whole files, without links")
    resources = body["predicate"]["resources"]
    if not isinstance(resources, list) or not resources:
        raise ValueError("no files")
    files: dict[str, str] = {}
    for one in resources:
        name, digest = one["name"], one["digest"]
        if one["algorithm"] != "sha256" or not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise ValueError("another hash than SHA-256")
        if not isinstance(name, str) or not (name == ITSELF or _PATH.fullmatch(name)):
            raise ValueError(f"'{one_line(name, 80)}' is no path within a bundle")
        if name in files:
            raise ValueError(f"'{one_line(name, 80)}' is there twice")
        files[name] = digest
    if ITSELF in files and len(files) > 1:
        raise ValueError("a file and a folder at once")
    subjects = body["subject"]
    if (
        not isinstance(subjects, list)
        or len(subjects) != 1
        or subjects[0]["digest"] != {"sha256": _root(files.values())}
    ):
        raise ValueError("its own sum does not fit its files")
    return files


def _root(digests: Any) -> str:
    """model-signing's sum over all files: the SHA-256 of their hashes, in the order of the list."""
    made = hashlib.sha256()
    for digest in digests:
        made.update(bytes.fromhex(digest))
    return made.hexdigest()
