"""A bundle that is not whole, not its own, or not good enough is refused in one sentence."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import medge
from medge.runtime.bundle import Bundle, atomic_folder, new_bundle
from medge.runtime.errors import BundleError, ParityGateError, StorageError
from medge.runtime.manifest import LICENCE_NOTICE, MANIFEST, Manifest


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "copy"))


def rewrite(folder: Path, **changes: object) -> None:
    """Change the manifest as its author could: with a right digest."""
    manifest = Manifest.read(folder)
    (folder / MANIFEST).write_text(dataclasses.replace(manifest, **changes).to_json())  # type: ignore[arg-type]


def test_a_whole_bundle_opens(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    assert opened.manifest.licence == LICENCE_NOTICE
    assert "Health AI Developer Foundations" in opened.manifest.licence
    assert {entry.role for entry in opened.manifest.files} >= {
        "vision",
        "text",
        "tokenizer",
        "labels",
        "golden",
        "parity",
    }
    assert list(opened.problems()) == []


def test_every_changed_byte_is_noticed(copy: Path) -> None:
    for entry in Manifest.read(copy).files:
        path = copy / entry.path
        good = path.read_bytes()
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        with pytest.raises(BundleError, match="was changed"):
            Bundle.open(copy)
        path.write_bytes(good)
    Bundle.open(copy)


def test_a_changed_manifest_is_noticed(copy: Path) -> None:
    path = copy / MANIFEST
    path.write_text(
        path.read_text().replace('"status": "failed"', '"status": "passed"').replace("eval-tf", "hf-bicubic")
    )
    with pytest.raises(BundleError, match="was changed after it was written"):
        Bundle.open(copy)


def test_missing_and_truncated_files(copy: Path) -> None:
    entry = Manifest.read(copy).file("vision")
    assert entry is not None
    path = copy / entry.path
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BundleError, match=f"has 1000 bytes instead of {entry.bytes}"):
        Bundle.open(copy, verify=False)
    path.unlink()
    with pytest.raises(BundleError, match="is missing"):
        Bundle.open(copy, verify=False)


def test_half_written_and_absent_bundles(copy: Path, tmp_path: Path) -> None:
    (copy / MANIFEST).unlink()
    with pytest.raises(BundleError, match=r"has no manifest\.json, so it is no complete bundle"):
        medge.load(copy)
    with pytest.raises(BundleError, match="is not a folder"):
        medge.load(tmp_path / "nothing")
    (copy / MANIFEST).write_text("{")
    with pytest.raises(BundleError, match="is damaged"):
        medge.load(copy)


def test_a_newer_format_says_so(copy: Path) -> None:
    rewrite(copy, format_version=99)
    with pytest.raises(BundleError, match="format 99, this medge reads up to 1: update medge"):
        medge.load(copy)


@pytest.mark.parametrize(("parity", "said"), [(None, "parity not measured"), ({"status": "failed"}, "parity failed")])
def test_the_parity_gate_is_obeyed(copy: Path, parity: object, said: str) -> None:
    rewrite(copy, parity=parity)
    with pytest.raises(ParityGateError, match=said):
        medge.load(copy)
    assert medge.load(copy, allow_failed_parity=True).manifest.parity == parity


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), new_bundle(tmp_path / "b") as writer:
        writer.add("onnx/vision_model.onnx", "vision").write_bytes(b"half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_existing_output_needs_force(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "a") as folder:
        (folder / "x").write_text("old")
    with pytest.raises(StorageError, match="replace it with --force"), atomic_folder(tmp_path / "a"):
        pytest.fail("the block must not run")
    with pytest.raises(KeyError), atomic_folder(tmp_path / "a", force=True):
        raise KeyError
    assert (tmp_path / "a" / "x").read_text() == "old"  # a failed replacement leaves the old one
    with atomic_folder(tmp_path / "a", force=True) as folder:
        (folder / "x").write_text("new")
    assert (tmp_path / "a" / "x").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from medge.runtime.bundle import new_bundle\n"
        "with new_bundle(Path(sys.argv[1])) as w:\n"
        "    w.add('a/b', 'x').write_bytes(b'half'); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "b")], check=False)
    assert done.returncode == -9
    assert not (tmp_path / "b").exists()
    assert len(list(tmp_path.iterdir())) == 1  # the partial folder, under a hidden name
    with atomic_folder(tmp_path / "b"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_partial_of_a_living_process_is_kept(tmp_path: Path) -> None:
    living = tmp_path / f".b.partial-{os.getpid()}-0000"
    living.mkdir()
    with atomic_folder(tmp_path / "b"):
        pass
    assert living.is_dir()


def test_no_space_left(tmp_path: Path) -> None:
    """A file-size limit makes the kernel refuse the write, as a full disk does."""
    code = (
        "import resource, signal, sys; from pathlib import Path; from medge.runtime.bundle import new_bundle\n"
        "from medge.runtime.errors import StorageError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    with new_bundle(Path(sys.argv[1])) as w: w.add('a', 'x').write_bytes(b'0' * 5000)\n"
        "except StorageError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "b")], capture_output=True, text=True, check=True)
    assert "the file is too large; nothing was left under the final name" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_manifest_is_stable_json(bundle: Path) -> None:
    text = (bundle / MANIFEST).read_text()
    assert Manifest.read(bundle).to_json() == text
    source = json.loads(text)["source"]
    assert source
    assert "/" + str(bundle).split("/")[1] + "/" not in json.dumps(source)  # no machine's paths
