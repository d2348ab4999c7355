"""A bundle that is not whole, not its own, or not good enough is refused in one sentence."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import medge
from medge.runtime.bundles.bundle import Bundle, new_bundle
from medge.runtime.bundles.gates import tell
from medge.runtime.bundles.manifest import LICENCE_NOTICE, MANIFEST, SEAL_BYTES, Manifest
from medge.runtime.errors import BundleError, ParityGateError, ParityWarning
from medge.runtime.station.models.catalogue import Catalogue


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "copy"))


def rewrite(folder: Path, **changes: object) -> None:
    """Change the manifest as its author could: with a right digest."""
    manifest = Manifest.read(folder)
    (folder / MANIFEST).write_text(replace(manifest, **changes).to_json())  # type: ignore[arg-type]


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
    path.write_text('{"format_version": 2}')
    with pytest.raises(BundleError, match="was changed after it was written"):
        Bundle.open(copy)


def test_a_manifest_ends_with_the_hash_of_its_other_bytes(bundle: Path) -> None:
    """What other languages check: a fixed number of bytes at the end, and no JSON to be written again."""
    content = (bundle / MANIFEST).read_bytes()
    before, seal = content[:-SEAL_BYTES], content[-SEAL_BYTES:]
    assert seal.decode() == f',\n  "digest": "{hashlib.sha256(before).hexdigest()}"\n}}\n'
    assert {*json.loads(content)} - {*json.loads(before + b"\n}")} == {"digest"}


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


@pytest.mark.parametrize(
    ("version", "said"),
    [
        (99, "format 99, this medge reads 2: update medge$"),
        (1, "format 1, this medge reads 2: export the bundle again$"),
    ],
)
def test_another_format_says_what_to_do(copy: Path, version: int, said: str) -> None:
    rewrite(copy, format_version=version)
    with pytest.raises(BundleError, match=said):
        medge.load(copy)


def reseal(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest's JSON as a careless author could: the digest is right, the fields may not be."""
    path = folder / MANIFEST
    body = json.loads(path.read_text())
    del body["digest"]
    change(body)
    before = json.dumps(body, indent=2).removesuffix("\n}").encode()
    path.write_bytes(before + f',\n  "digest": "{hashlib.sha256(before).hexdigest()}"\n}}\n'.encode())


WRONG: dict[str, Callable[[dict[str, Any]], object]] = {
    "a field is missing": lambda body: body["model"].pop("tokenizer"),
    "a field is unknown": lambda body: body["preprocessing"].update(gamma=1),
    "a number is a text": lambda body: body["model"].update(embedding_size="many"),
    "a text is a number": lambda body: body.update(target=7),
    "a group is a text": lambda body: body["artefacts"].update(onnx="here"),
    "a colour is missing": lambda body: body["preprocessing"].update(mean=[0.5, 0.5]),
    "a statistic is none": lambda body: body["artefacts"]["onnx"]["towers"]["vision"]["golden"].update(
        statistic="most"
    ),
    "there are no artefacts": lambda body: body.pop("artefacts"),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_fields_that_are_missing_or_of_another_form_are_refused(
    copy: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    reseal(copy, lambda body: None)
    Manifest.read(copy)
    reseal(copy, change)
    with pytest.raises(BundleError, match=r"lacks or misnames a field \(.+\); export the bundle again$"):
        medge.load(copy)


def test_a_kind_that_is_not_known_is_refused(copy: Path) -> None:
    reseal(copy, lambda body: body.update(kind="segmenter"))
    with pytest.raises(BundleError, match="is of the kind 'segmenter', which this medge does not know: update medge$"):
        medge.load(copy)


def test_a_bundle_has_only_regular_files(copy: Path, tmp_path: Path) -> None:
    """What lies outside the bundle, or never ends, is not read as a part of it."""
    labels, aside = copy / "labels.safetensors", tmp_path / "aside.safetensors"
    labels.rename(aside)
    labels.symlink_to(aside)
    with pytest.raises(BundleError, match=r"labels\.safetensors is a link, or lies behind one; copy or export"):
        medge.load(copy)
    labels.unlink()
    os.mkfifo(labels)
    with pytest.raises(BundleError, match=r"labels\.safetensors is no regular file; copy or export"):
        medge.load(copy)
    labels.unlink()
    shutil.copyfile(aside, labels)
    (copy / "onnx").rename(tmp_path / "onnx")
    (copy / "onnx").symlink_to(tmp_path / "onnx")
    with pytest.raises(BundleError, match=r"\.onnx is a link, or lies behind one"):
        medge.load(copy)
    manifest = copy / MANIFEST
    manifest.rename(tmp_path / MANIFEST)
    manifest.symlink_to(tmp_path / MANIFEST)
    with pytest.raises(BundleError, match=r"manifest\.json is no regular file; copy the bundle again, without links$"):
        medge.load(copy)


@pytest.mark.parametrize("parity", [None, "failed"])
def test_the_parity_gate_is_obeyed(copy: Path, parity: str | None) -> None:
    manifest = Manifest.read(copy)
    onnx = manifest.artefacts["onnx"]
    assert onnx.parity is not None
    first, *others = onnx.parity.gates
    assert (first.figure, first.sense) == ("pixels.max_error", "<=")
    gates = (replace(first, value=first.bound + 1, passed=False), *others)
    changed = replace(onnx, parity=replace(onnx.parity, status="failed", gates=gates) if parity else None)
    rewrite(copy, artefacts={"onnx": changed})
    with pytest.raises(ParityGateError, match=f"parity {parity or 'not measured'}") as refused:
        medge.load(copy)
    assert ("see " in str(refused.value)) is (parity == "failed")  # what was not measured has no page
    assert medge.load(copy, allow_failed_parity=True).manifest.artefacts["onnx"] == changed


def test_what_was_lost_is_told_and_the_bundle_is_used(copy: Path) -> None:
    onnx = Manifest.read(copy).artefacts["onnx"]
    assert onnx.parity is not None
    gates = tuple(
        replace(gate, warning="worse") if gate.figure == "vision.centred_cosine.mean" else gate
        for gate in onnx.parity.gates
    )
    rewrite(copy, artefacts={"onnx": replace(onnx, parity=replace(onnx.parity, gates=gates, warnings=tell(gates)))})
    with pytest.warns(ParityWarning, match=r"passed with a warning: on images: worse \(measured on \d+ images\)$"):
        encoder = medge.load(copy)
    assert (encoder.manifest.status, encoder.manifest.verdict) == ("passed", "passed with a warning")
    assert "parity passed with a warning" in repr(encoder)
    assert "<td>passed with a warning</td>" in encoder._repr_html_()
    assert (
        Catalogue.read(copy.parent).entries[copy.name].parity == "passed with a warning"
    )  # the station's results say it


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), new_bundle(tmp_path / "b") as writer:
        writer.add("onnx/vision_model.onnx", "vision").write_bytes(b"half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_no_space_left(tmp_path: Path) -> None:
    """A file-size limit makes the kernel refuse the write, as a full disk does."""
    code = (
        "import resource, signal, sys; from pathlib import Path; from medge.runtime.bundles.bundle import new_bundle\n"
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


def test_a_bundle_that_is_replaced_while_it_is_used(copy: Path, few_images: Path, tmp_path: Path) -> None:
    """What is open goes on; what is opened later is refused, since its hash was never compared with this manifest's."""
    encoder = medge.load(copy)
    before = encoder.embed_images(few_images / "CT_small.dcm")
    other = Path(shutil.copytree(copy, tmp_path / "other"))
    aside = copy.rename(tmp_path / "aside")
    other.rename(copy)
    np.testing.assert_array_equal(encoder.embed_images(few_images / "CT_small.dcm"), before)
    with pytest.raises(BundleError, match="was replaced or changed after it had been opened; load it again"):
        encoder.embed_texts("chest x-ray")
    shutil.rmtree(copy)
    aside.rename(copy)
    assert encoder.embed_texts("chest x-ray").shape[0] == 1  # the very files that were checked


def test_a_file_that_is_changed_while_it_is_opened(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medge.runtime.encoder import encoder as module

    loaded = medge.load(copy)
    real = module.OrtSession

    def slow(path: Path, **options: Any) -> Any:
        session = real(path, **options)
        os.utime(path, (1, 1))
        return session

    monkeypatch.setattr(module, "OrtSession", slow)
    with pytest.raises(BundleError, match="was replaced or changed"):
        _ = loaded.vision
