"""`medge kit build` with a small interpreter and packages in the place of the real ones."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from medge.runtime.errors import KitError, MedgeError
from medge.runtime.kit.building.files import Source, entries_of, sources_of
from medge.runtime.kit.building.job import BuildJob, build_kit
from medge.runtime.kit.building.makers import Makers
from medge.runtime.kit.layout import Kit
from medge.runtime.trust.keys import PrivateKey
from medge.runtime.trust.trust import make_trust
from medge.runtime.trust.verifying import verify_bundle, verify_file

CREATED = "2026-11-27T09:00:00Z"


@pytest.fixture
def makers(tmp_path: Path) -> Makers:
    PrivateKey.make(tmp_path / "keys" / "makers.key", "makers")
    return Makers.read(tmp_path / "keys" / "makers.key", None, lambda: "")


def parts(place: Path) -> tuple[Path, Path]:
    """An interpreter and packages, of a few files each."""
    python, packages = place / "python", place / "packages"
    for path, content in {
        "bin/python3": "#!/bin/sh\n", "lib/os.py": "x", "lib/__pycache__/os.cpython-313.pyc": "made",
        "licenses/packages.json": json.dumps({"packages": [{"name": "libc6", "version": "2.41", "sha256": "0" * 64}]}),
    }.items():  # fmt: skip
        (python / path).parent.mkdir(parents=True, exist_ok=True)
        (python / path).write_text(content)
    (python / "bin/python3").chmod(0o755)
    for name, about in {"medge": "Apache-2.0", "typer": "MIT", "fastapi": "MIT"}.items():
        (packages / name).mkdir(parents=True)
        (packages / name / "__init__.py").write_text(f"# {name}\n")
        info = packages / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\nLicense-Expression: {about}\n"
        )
        (info / "licenses").mkdir()
        (info / "licenses" / "LICENSE").write_text(about)
    return python, packages


def job(place: Path, bundle: Path, out: Path, **facts: object) -> BuildJob:
    python, packages = place / "python", place / "packages"
    if not python.exists():
        parts(place)
    told: dict[str, Any] = {"interpreter": python, "packages": packages, **facts}
    return BuildJob(out, (bundle,), "linux-x86_64", CREATED, 7, **told)


def everything(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_kit_holds_what_was_asked_for(tmp_path: Path, bundle: Path, makers: Makers) -> None:
    apk, web = tmp_path / "medge.apk", tmp_path / "web"
    apk.write_bytes(b"app")
    web.mkdir()
    (web / "index.html").write_text("page")
    made = build_kit(job(tmp_path, bundle, tmp_path / "stick", apks=(apk,), web=web), makers)
    kit = Kit.open(tmp_path / "stick")
    assert kit == made
    assert kit.absent() == {}
    name = bundle.resolve().name
    assert set(kit.statement.components) == {"python", "packages", f"bundles/{name}", "docs", "phone", "web"}
    by_path = {entry.path: entry for entry in kit.entries}
    assert "python/lib/os.py" in by_path
    assert not [path for path in by_path if "pycache" in path]
    assert by_path["python/bin/python3"].mode == by_path["bin/medge"].mode == 0o755
    assert {"phone/medge.apk", "phone/web/index.html"} <= kit.statement.beside.keys() & by_path.keys()
    assert (tmp_path / "stick/phone/medge.apk").read_bytes() == b"app"
    assert (kit.statement.medge, kit.counter, kit.statement.created) == ("1.0", 7, CREATED)
    checked = subprocess.run(
        ["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path / "stick", capture_output=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    with tarfile.open(tmp_path / "stick" / "bootstrap.tar") as archive:
        names = archive.getnames()
    assert {"python/bin/python3", "packages/medge/__init__.py", "packages/typer-1.0.dist-info/METADATA"} <= set(names)
    assert not [one for one in names if "fastapi" in one]


def test_a_kit_built_twice_is_the_same(
    tmp_path: Path, bundle: Path, makers: Makers, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_kit(job(tmp_path, bundle, tmp_path / "one"), makers)
    shutil.copytree(tmp_path / "packages", tmp_path / "again" / "packages")
    shutil.copytree(tmp_path / "python", tmp_path / "again" / "python")
    for path in (tmp_path / "again").rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o700 if path.is_dir() or path.stat().st_mode & 0o100 else 0o600)
    before = os.umask(0o077)
    try:
        build_kit(job(tmp_path / "again", bundle, tmp_path / "two"), makers)
    finally:
        os.umask(before)
    assert everything(tmp_path / "one") == everything(tmp_path / "two")


def test_a_kit_and_its_bundles_are_signed(tmp_path: Path, bundle: Path, makers: Makers) -> None:
    build_kit(job(tmp_path, bundle, tmp_path / "stick"), makers)
    trust = make_trust(tmp_path / "trust")
    trust.add(tmp_path / "stick" / "trust" / "makers.pub")
    trust = type(trust).open(tmp_path / "trust")
    signer = verify_file(tmp_path / "stick/kit.json", tmp_path / "stick/kit.sig", trust)
    assert signer is not None
    assert signer.fingerprint == makers.public.fingerprint
    name = bundle.resolve().name
    for entry in (kit := Kit.open(tmp_path / "stick")).entries:
        if entry.component == f"bundles/{name}" and entry.sha256:
            (tmp_path / "device" / entry.path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(kit.piece(entry.sha256), tmp_path / "device" / entry.path)
    assert verify_bundle(tmp_path / "device/bundles" / name, trust) is not None
    assert not (bundle / "model.sig").exists()


def test_what_it_is_made_of_is_told(tmp_path: Path, bundle: Path, makers: Makers) -> None:
    schema = pytest.importorskip("cyclonedx.schema", reason="pip install 'cyclonedx-python-lib[json-validation]'")
    from cyclonedx.validation.json import JsonStrictValidator

    kit = build_kit(job(tmp_path, bundle, tmp_path / "stick"), makers)
    by_path = {entry.path: kit.piece(entry.sha256) for entry in kit.entries if entry.sha256}
    text = by_path["docs/sbom.cdx.json"].read_text()
    assert JsonStrictValidator(schema.SchemaVersion.V1_6).validate_str(text) is None
    parts = {one["bom-ref"] for one in json.loads(text)["components"]}
    assert parts == {"pypi:medge", "pypi:typer", "pypi:fastapi", "deb:libc6", f"bundle:{bundle.resolve().name}"}
    licences = by_path["docs/licences.txt"].read_text()
    assert "typer 1.0: MIT; packages/typer-1.0.dist-info/licenses/LICENSE" in licences
    assert "libc6 2.41: python/licenses/libc6/copyright" in licences


def test_a_private_key_never_comes_onto_the_stick(tmp_path: Path, bundle: Path, makers: Makers) -> None:
    key = makers.key.path
    inside = tmp_path / "stick" / "makers.key"
    inside.parent.mkdir()
    for ending in (".key", ".pub"):
        shutil.copy(key.with_suffix(ending), inside.with_suffix(ending))
    with pytest.raises(MedgeError, match="lies on the stick"):
        build_kit(job(tmp_path, bundle, tmp_path / "stick"), Makers.read(inside, None, lambda: ""))
    python, _ = parts(tmp_path / "other")
    shutil.copy(key, python / "lib" / "innocent.txt")
    with pytest.raises(KitError, match=r"innocent\.txt is the private key"):
        build_kit(job(tmp_path / "other", bundle, tmp_path / "second"), makers)
    with pytest.raises(KitError, match="is missing"):
        Kit.open(tmp_path / "second")
    secret = key.read_bytes()
    assert not [
        path for path, content in everything(tmp_path).items() if content == secret and path.startswith("second")
    ]


def test_what_can_be_in_no_kit_is_refused(tmp_path: Path, bundle: Path, makers: Makers) -> None:
    with pytest.raises(KitError, match="at least one bundle"):
        build_kit(BuildJob(tmp_path / "stick", (), "linux-x86_64", CREATED, 1), makers)
    other = tmp_path / "other" / bundle.resolve().name
    shutil.copytree(bundle, other)
    with pytest.raises(KitError, match="two bundles are called"):
        build_kit(BuildJob(tmp_path / "stick", (bundle, other), "linux-x86_64", CREATED, 1), makers)
    with pytest.raises(KitError, match="is no folder"):
        build_kit(job(tmp_path, bundle, tmp_path / "stick", docs=tmp_path / "gone"), makers)
    with pytest.raises(KitError, match="is no file"):
        build_kit(job(tmp_path, bundle, tmp_path / "stick", apks=(tmp_path / "gone.apk",)), makers)
    (tmp_path / "packages" / "out").symlink_to("/etc")
    with pytest.raises(KitError, match="no plain relative path"):
        build_kit(job(tmp_path, bundle, tmp_path / "stick"), makers)
    (tmp_path / "packages" / "out").unlink()
    os.mkfifo(tmp_path / "packages" / "pipe")
    with pytest.raises(KitError, match="is a device, a pipe"):
        build_kit(job(tmp_path, bundle, tmp_path / "stick"), makers)
    assert not (tmp_path / "stick" / "kit.json").exists()


def test_every_byte_is_hashed_once(tmp_path: Path) -> None:
    python, _ = parts(tmp_path)
    told: list[int] = []
    entries, pieces = entries_of([*sources_of(python, "python", "python"), Source("a", "docs", b"12")], told.append)
    assert sum(told) == sum(entry.size or 0 for entry in entries)
    assert pieces[hashlib.sha256(b"12").hexdigest()] == b"12"
    assert [entry.path for entry in entries] == sorted(entry.path for entry in entries)
