"""A bundle's bill of materials is CycloneDX, and says what the manifest says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import medge

from medge.runtime.bundles.manifest import Manifest


def valid(document: str) -> None:
    """Hold a document against the standard's own schema, strictly: no field that it does not know."""
    schema = pytest.importorskip("cyclonedx.schema", reason="pip install 'cyclonedx-python-lib[json-validation]'")
    from cyclonedx.validation.json import JsonStrictValidator

    error = JsonStrictValidator(schema.SchemaVersion.V1_6).validate_str(document)
    assert error is None, error


@pytest.mark.parametrize("made", ["bundle", "tiny_reader"])
def test_a_bundles_bill_of_materials(made: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(made)
    told = medge("inspect", folder, "--sbom").stdout
    valid(told)
    document, manifest = json.loads(told), Manifest.read(folder)
    hashes = {item["name"]: item["hashes"][0]["content"] for item in document["components"]}
    assert hashes == {entry.path: entry.sha256 for entry in manifest.files}
    made_of = document["metadata"]["component"]["pedigree"]["ancestors"][0]
    assert made_of["name"] == manifest.source.name
    assert [file["hashes"][0]["content"] for file in made_of["components"]] == [*manifest.source.sha256.values()]
    assert document["metadata"]["component"]["licenses"][0]["license"]["text"]["content"] == manifest.licence
    assert medge("inspect", folder, "--sbom").stdout == told  # nothing in it depends on the moment


def test_the_schema_refuses_what_is_not_in_it(bundle: Path) -> None:
    """Were this accepted, the test above would say nothing."""
    document = json.loads(medge("inspect", bundle, "--sbom").stdout)
    document["components"][0]["hashes"][0]["alg"] = "SHA-255"
    with pytest.raises(AssertionError):
        valid(json.dumps(document))
