"""A kit's bill of materials, CycloneDX 1.6, and the licences of all that is in it.

Like a bundle's (`runtime/bundles/sbom.py`) it holds no date and no random number: the same kit gives the same document.
"""

from __future__ import annotations

import email.parser
import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...bundles.bundle import Bundle
from ...bundles.manifest import Manifest, sha256_json
from ...bundles.sbom import SPECIFICATION, bill_of_materials
from ...errors import KitError
from .files import Source

_SPACE = uuid.UUID("3f3b6f7e-6f0a-5d55-8f5e-6d656467656b")  # medge's own, for kits
BILL, LICENCES = "docs/sbom.cdx.json", "docs/licences.txt"


def documents(name: str, interpreter: Path, packages: Path, bundles: Mapping[str, Bundle]) -> Iterator[Source]:
    """The files that say what a kit is made of, and under which licences.

    Args:
        name: the kit's.
        interpreter: its folder; `licenses/packages.json` names the system packages that it was made of.
        packages: the folder of its Python packages.
        bundles: by their names on the device.

    Raises:
        KitError: a package says nothing of itself.
    """
    found = [_about(folder) for folder in sorted(packages.glob("*.dist-info"))]
    manifests = {one: bundle.manifest for one, bundle in bundles.items()}
    system = _system_packages(interpreter)
    document = _bill(name, found, system, manifests)
    yield Source(BILL, "docs", (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())
    for one, manifest in manifests.items():
        text = json.dumps(bill_of_materials(manifest), indent=1, ensure_ascii=False) + "\n"
        yield Source(f"docs/sbom-{one}.cdx.json", "docs", text.encode())
    yield Source(LICENCES, "docs", _licences(packages, found, system, manifests).encode())


def _about(folder: Path) -> dict[str, str]:
    metadata = folder / "METADATA"
    if not metadata.is_file():
        raise KitError(f"{folder} has no METADATA, so its licence can't be told; take a whole wheel of it")
    told = email.parser.HeaderParser().parsestr(metadata.read_text(encoding="utf-8", errors="replace"))
    classifiers = [
        str(text).rsplit("::", 1)[1].strip()
        for text in told.get_all("Classifier", [])
        if str(text).startswith("License ::")
    ]
    free = str(told.get("License") or "").strip().splitlines()
    licence = str(told.get("License-Expression") or " AND ".join(classifiers) or (free[0] if free else "see its files"))
    return {"name": str(told["Name"]), "version": str(told["Version"]), "licence": licence, "folder": folder.name}


def _system_packages(interpreter: Path) -> list[dict[str, str]]:
    listed = interpreter / "licenses" / "packages.json"
    if not listed.is_file():
        return []
    return [dict(one) for one in json.loads(listed.read_text(encoding="utf-8"))["packages"]]


def _bill(
    name: str, found: list[dict[str, str]], system: list[dict[str, str]], manifests: Mapping[str, Manifest]
) -> dict[str, Any]:  # fmt: skip
    parts: list[dict[str, Any]] = [
        {
            "type": "library", "bom-ref": f"pypi:{one['name']}", "name": one["name"], "version": one["version"],
            "purl": f"pkg:pypi/{one['name'].lower().replace('_', '-')}@{one['version']}",
            "licenses": [{"license": {"name": one["licence"]}}],
        }
        for one in found
    ]  # fmt: skip
    parts += [
        {
            "type": "library", "bom-ref": f"deb:{one['name']}", "name": one["name"], "version": one["version"],
            "purl": f"pkg:deb/debian/{one['name']}@{one['version']}",
            "hashes": [{"alg": "SHA-256", "content": one["sha256"]}],
        }
        for one in system
    ]  # fmt: skip
    parts += [
        {
            "type": "machine-learning-model", "bom-ref": f"bundle:{one}", "name": manifest.name,
            "licenses": [{"license": {"name": "see the text", "text": {"content": manifest.licence}}}],
            "properties": [{"name": "medge:sbom", "value": f"docs/sbom-{one}.cdx.json"}],
        }
        for one, manifest in manifests.items()
    ]  # fmt: skip
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPECIFICATION}.schema.json",
        "bomFormat": "CycloneDX", "specVersion": SPECIFICATION, "version": 1,
        "serialNumber": f"urn:uuid:{uuid.uuid5(_SPACE, sha256_json(parts))}",
        "metadata": {"component": {"type": "application", "bom-ref": "kit", "name": f"medge kit {name}"}},
        "components": parts,
        "dependencies": [{"ref": "kit", "dependsOn": [part["bom-ref"] for part in parts]}],
    }  # fmt: skip


def _licences(
    packages: Path, found: list[dict[str, str]], system: list[dict[str, str]], manifests: Mapping[str, Manifest]
) -> str:  # fmt: skip
    """A line for each part, with where its licence's text lies in the installed version."""
    lines = ["What this kit holds, and under which licence. Paths are those of an installed version.", ""]
    for one in found:
        files = sorted(
            path.relative_to(packages).as_posix() for path in (packages / one["folder"]).rglob("*")
            if path.is_file() and path.name.lower().startswith(("licen", "copying", "notice"))
        )  # fmt: skip
        where = f"packages/{files[0]}" if files else f"packages/{one['folder']}/METADATA"
        lines.append(f"{one['name']} {one['version']}: {one['licence']}; {where}")
    lines += [f"{one['name']} {one['version']}: python/licenses/{one['name']}/copyright" for one in system]
    lines += [f"bundle {one}: {manifest.licence}" for one, manifest in manifests.items()]
    return "\n".join(lines) + "\n"
