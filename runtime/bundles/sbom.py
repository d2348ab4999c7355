"""A bundle as a software bill of materials: CycloneDX 1.6, JSON; every file with its hash, what it was made of, its licence.

Written by hand, since it is one small document and the base install has no room for a library: tests hold it against the
standard's own schema. The same bundle gives the same document, byte for byte: it holds no date and no random number.
"""

from __future__ import annotations

import uuid
from typing import Any

from .manifest import Manifest, sha256_json

SPECIFICATION = "1.6"
_SPACE = uuid.UUID("6f0fd0a5-1a5b-5f0a-9c0e-6d656467652e")  # medge's own, so that equal bundles have equal numbers


def bill_of_materials(manifest: Manifest) -> dict[str, Any]:
    """A bundle's CycloneDX document.

    Args:
        manifest: of the bundle; its hashes are taken as they stand there (`medge verify` checks them).
    """
    files = [_file(entry.path, entry.sha256, role=entry.role, bytes=str(entry.bytes)) for entry in manifest.files]
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPECIFICATION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPECIFICATION,
        "serialNumber": f"urn:uuid:{uuid.uuid5(_SPACE, sha256_json([[f.path, f.sha256] for f in manifest.files]))}",
        "version": 1,
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "medge", "version": manifest.medge_version}]},
            "component": {
                "type": "machine-learning-model", "bom-ref": "bundle", "name": manifest.name,
                "description": f"{manifest.kind} of the family {manifest.model.family}, made by medge",
                "licenses": [{"license": {"name": "see the text", "text": {"content": manifest.licence}}}],
                "pedigree": {"ancestors": _ancestors(manifest)},
                "properties": _properties(kind=manifest.kind, target=manifest.target, parity=manifest.status, **{
                    f"recipe:{form}:{part}": recipe
                    for form, artefact in manifest.artefacts.items() for part, recipe in artefact.recipes.items()
                }),
            },
        },
        "components": files,
        "dependencies": [{"ref": "bundle", "dependsOn": [file["bom-ref"] for file in files]}],
    }  # fmt: skip


def _ancestors(manifest: Manifest) -> list[dict[str, Any]]:
    """The checkpoint that a bundle was made of, and of a distilled one the teacher; each file with its hash."""
    sources = {"checkpoint": manifest.source, "teacher": manifest.source.teacher}
    return [
        {
            "type": "machine-learning-model", "bom-ref": role, "name": source.name,
            "components": [_file(f"{role}/{path}", sha256) for path, sha256 in source.sha256.items()],
        }
        for role, source in sources.items() if source
    ]  # fmt: skip


def _file(path: str, sha256: str, **facts: str) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "file", "bom-ref": f"file:{path}", "name": path, "hashes": [{"alg": "SHA-256", "content": sha256}],
    }  # fmt: skip
    return component | ({"properties": _properties(**facts)} if facts else {})


def _properties(**facts: str) -> list[dict[str, str]]:
    return [{"name": f"medge:{name}", "value": value} for name, value in facts.items()]
