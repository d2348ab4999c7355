"""Bundles and files that are signed, those that are not, and those that only look so."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from signed_bundles import VISION, fingerprint, make_key, trusting, write_signable
from signed_cases import DAMAGE, STATEMENTS

import medge
from medge.runtime.bundles import bundle as bundles
from medge.runtime.bundles.bundle import Bundle
from medge.runtime.bundles.manifest import MANIFEST, SIGNATURE, Manifest, sha256_file
from medge.runtime.errors import BundleError, MissingExtraError, StorageError, TrustError, TrustWarning
from medge.runtime.trust import statement, verifying
from medge.runtime.trust.documents import sign_rotation
from medge.runtime.trust.envelope import IN_TOTO, Envelope
from medge.runtime.trust.keys import PrivateKey, PublicKey
from medge.runtime.trust.signing import sign_bundle, sign_file
from medge.runtime.trust.trust import Trust
from medge.runtime.trust.verifying import signed_manifest, verify_bundle, verify_file


@pytest.fixture
def key(tmp_path: Path) -> PrivateKey:
    return make_key(tmp_path, "makers")


@pytest.fixture
def signed(tmp_path: Path, key: PrivateKey) -> Path:
    folder = write_signable(tmp_path / "eyes")
    sign_bundle(folder, key)
    return folder


@pytest.fixture
def trust(tmp_path: Path, key: PrivateKey) -> Trust:
    return trusting(tmp_path / "trust", tmp_path / "makers.pub")


def refused(folder: Path, trust: Trust, why: str) -> None:
    """Every way to use a bundle refuses it, and says why."""
    with pytest.raises(TrustError, match=why):
        verify_bundle(folder, trust)
    for load in (medge.load, medge.load_encoder, medge.load_generator):
        with pytest.raises((TrustError, BundleError), match=why):
            load(folder, trust=trust)


def test_a_signed_bundle_is_known_by_its_signer(signed: Path, key: PrivateKey, trust: Trust) -> None:
    signer = verify_bundle(signed, trust)
    assert signer is not None
    assert (signer.name, signer.fingerprint) == ("makers", fingerprint(key))
    assert signed_manifest(signed, trust) == signed_manifest(signed, trust.folder) is not None
    assert list(Bundle.open(signed).problems()) == []  # the signature is none of its files
    assert stat.S_IMODE((signed / SIGNATURE).stat().st_mode) == 0o666 & ~_umask()


def _umask() -> int:
    found = os.umask(0)
    os.umask(found)
    return found


def test_a_real_bundle_loads_with_trust_and_without_is_refused(
    bundle: Path, tmp_path: Path, key: PrivateKey, trust: Trust, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(bundle, tmp_path / "copy", copy_function=os.link)
    refused(copy, trust, "copy is not signed, and this device uses signed bundles")
    monkeypatch.setenv("MEDGE_TRUST", str(trust.folder))
    with pytest.raises(TrustError, match="is not signed"):
        medge.load(copy)
    sign_bundle(copy, key)
    assert medge.load(copy, trust=trust).bundle.folder == copy
    assert medge.load_encoder(copy).bundle.folder == copy


def test_each_file_is_hashed_once(signed: Path, trust: Trust, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a signature costs no second reading of gigabytes; how little it costs is in docs/results/signing.md."""
    names: list[str] = []

    def watched(path: Path) -> str:
        names.append(path.relative_to(signed).as_posix())
        return sha256_file(path)

    for module in (bundles, verifying):
        monkeypatch.setattr(module, "sha256_file", watched)
    listed = sorted(entry.path for entry in Manifest.read(signed).files)
    medge.load(signed, trust=trust)
    assert sorted(name for name in names if name != MANIFEST) == listed
    names.clear()
    verify_bundle(signed, trust)
    assert sorted(name for name in names if name != MANIFEST) == listed


@pytest.mark.parametrize("path", [VISION, "tokenizer.json", MANIFEST])
def test_a_changed_file_is_named(path: str, signed: Path, trust: Trust) -> None:
    content = bytearray((signed / path).read_bytes())
    content[len(content) // 2] ^= 1
    (signed / path).write_bytes(content)
    with pytest.raises(TrustError, match=f"eyes: {path} (was changed after it was signed|is not what was signed)"):
        verify_bundle(signed, trust)
    with pytest.raises((TrustError, BundleError), match=path):
        medge.load(signed, trust=trust)


def test_what_was_added_or_taken_away_is_named(signed: Path, trust: Trust) -> None:
    (signed / "onnx" / "extra.bin").write_bytes(b"x")
    refused(signed, trust, "eyes holds onnx/extra.bin, which is not among the files that were signed")
    (signed / "onnx" / "extra.bin").unlink()
    (signed / "link").symlink_to("/etc/hostname")
    refused(signed, trust, "eyes/link is a link or no regular file")
    (signed / "link").unlink()
    os.mkfifo(signed / "pipe")
    refused(signed, trust, "eyes/pipe is a link or no regular file")
    (signed / "pipe").unlink()
    shutil.move(signed / "onnx", signed.parent / "elsewhere")
    (signed / "onnx").symlink_to(signed.parent / "elsewhere")
    refused(signed, trust, "eyes/onnx is a link or no regular file")
    (signed / "onnx").unlink()
    refused(signed, trust, "eyes lacks onnx/vision_model.onnx, which was signed")
    shutil.move(signed.parent / "elsewhere", signed / "onnx")
    assert verify_bundle(signed, trust)
    (signed / MANIFEST).unlink()
    refused(signed, trust, "eyes lacks manifest.json")


def test_signatures_of_others_and_of_other_things_are_refused(
    signed: Path, tmp_path: Path, key: PrivateKey, trust: Trust
) -> None:
    good = (signed / SIGNATURE).read_bytes()
    other = write_signable(tmp_path / "other", seed=1)
    sign_bundle(other, key)
    shutil.copy(other / SIGNATURE, signed / SIGNATURE)
    refused(signed, trust, "eyes: golden.safetensors is not what was signed")

    stranger = make_key(tmp_path, "stranger")
    sign_bundle(signed, stranger)
    refused(signed, trust, f"signed by the key {fingerprint(stranger)[:4]}.*which this device does not trust")
    forged = json.loads((signed / SIGNATURE).read_bytes())
    forged["verificationMaterial"]["publicKey"]["hint"] = fingerprint(key)  # says it were the makers'
    (signed / SIGNATURE).write_text(json.dumps(forged))
    refused(signed, trust, "model.sig is not signed by the key that it names, makers")

    (signed / SIGNATURE).write_bytes(sign_file(signed / MANIFEST, key, tmp_path / "x.sig").read_bytes())
    refused(signed, trust, "a single file's signature, not this bundle's")
    new = PublicKey.read(tmp_path / "stranger.pub")
    (signed / SIGNATURE).write_bytes(sign_rotation(new, key))  # the key's own signature, of something else
    refused(signed, trust, "model.sig is a signature, but not of files")
    (signed / SIGNATURE).unlink()
    refused(signed, trust, "eyes is not signed")
    (signed / SIGNATURE).write_bytes(good)
    assert verify_bundle(signed, trust)


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_signature_is_refused(name: str, signed: Path, trust: Trust) -> None:
    path = signed / SIGNATURE
    before = path.read_bytes()
    path.write_bytes(DAMAGE[name](before))
    assert path.read_bytes() != before
    refused(signed, trust, "model.sig")


def test_a_signature_that_is_no_small_file_is_refused(signed: Path, trust: Trust) -> None:
    path = signed / SIGNATURE
    path.unlink()
    path.symlink_to("/dev/zero")
    refused(signed, trust, "model.sig is no regular file")
    path.unlink()
    with path.open("wb") as stream:
        stream.truncate(17 << 20)
    refused(signed, trust, "model.sig has 17825792 bytes")


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_by_other_rules_is_refused_though_it_is_signed(
    name: str, signed: Path, key: PrivateKey, trust: Trust
) -> None:
    path = signed / SIGNATURE
    body = json.loads(Envelope.parse(path.read_bytes(), path).payload)
    STATEMENTS[name](body)
    path.write_bytes(key.sign(json.dumps(body).encode(), IN_TOTO).to_json())
    refused(signed, trust, "model.sig signs something that medge does not read")


def test_a_statement_with_a_field_twice_is_refused_though_it_is_signed(
    signed: Path, key: PrivateKey, trust: Trust
) -> None:
    path = signed / SIGNATURE
    payload = Envelope.parse(path.read_bytes(), path).payload
    twice = payload.replace(b'"resources":', b'"resources": [], "resources":', 1)
    path.write_bytes(key.sign(twice, IN_TOTO).to_json())
    refused(signed, trust, "the field 'resources' is there twice")


def test_a_file_is_signed_and_its_changes_are_refused(tmp_path: Path, key: PrivateKey, trust: Trust) -> None:
    kit = tmp_path / "stick" / "kit.json"
    kit.parent.mkdir()
    kit.write_text('{"counter": 1}')
    assert sign_file(kit, key) == kit.with_suffix(".sig")
    signer = verify_file(kit, kit.with_suffix(".sig"), trust)
    assert signer is not None
    assert signer.name == "makers"
    kit.write_text('{"counter": 2}')
    with pytest.raises(TrustError, match="kit.json is not what kit.sig was made for"):
        verify_file(kit, kit.with_suffix(".sig"), trust)
    with pytest.raises(TrustError, match="kit.sig is missing"):
        verify_file(kit, tmp_path / "nowhere" / "kit.sig", trust)
    sign_bundle(write_signable(tmp_path / "eyes"), make_key(tmp_path / "keys", "other"))
    trust.add(tmp_path / "keys/other.pub")
    with pytest.raises(TrustError, match="is a bundle's signature, not that of"):
        verify_file(kit, tmp_path / "eyes" / SIGNATURE, Trust.open(trust.folder))
    with pytest.raises(TrustError, match="is no regular file"):
        sign_file(tmp_path / "nothing", key)
    with pytest.raises(TrustError, match="is a signature's name"):
        sign_file(kit.with_suffix(".sig"), key)


def test_the_policy_is_the_devices(signed: Path, tmp_path: Path, key: PrivateKey) -> None:
    (signed / SIGNATURE).unlink()
    told = trusting(tmp_path / "warn", tmp_path / "makers.pub", policy="warn")
    with pytest.warns(TrustWarning, match="eyes is not signed.*used all the same") as caught:
        assert verify_bundle(signed, told) is None
    assert caught[0].filename == __file__
    with pytest.warns(TrustWarning, match="eyes is not signed") as caught:
        medge.load(signed, trust=told)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        off = trusting(tmp_path / "off", policy="off")
        assert verify_bundle(signed, off) is signed_manifest(signed, off) is None
        assert verify_file(signed / MANIFEST, signed / "none", off) is None
    told.set_policy("refuse")
    assert Trust.open(told.folder).policy == "refuse"
    with pytest.raises(TrustError, match="there is no policy 'perhaps'"):
        told.set_policy("perhaps")


def test_only_a_whole_bundle_of_listed_files_is_signed(tmp_path: Path, key: PrivateKey) -> None:
    folder = write_signable(tmp_path / "eyes")
    (folder / "notes.txt").write_text("patient 7")
    with pytest.raises(TrustError, match="eyes holds notes.txt, which is none of its files"):
        sign_bundle(folder, key)
    (folder / "notes.txt").unlink()
    (folder / VISION).write_bytes(b"x" * 30_000)
    with pytest.raises(BundleError, match="vision_model.onnx was changed"):
        sign_bundle(folder, key)
    assert not (folder / SIGNATURE).exists()


def test_a_bundle_that_is_amended_loses_its_signature(signed: Path, key: PrivateKey, trust: Trust) -> None:
    opened = Bundle.open(signed)
    opened.amend(opened.manifest, {"config.json": ("config", "{}")})
    refused(signed, trust, "eyes is not signed")
    sign_bundle(signed, key)
    assert verify_bundle(signed, trust)


def test_a_manifest_can_not_list_the_signature(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="model.sig can't be listed"):
        write_signable(tmp_path / "eyes", files={VISION: ("vision", 9), SIGNATURE: ("config", 9)})
    assert Manifest.read(write_signable(tmp_path / "others")).files


def test_a_manifest_that_is_replaced_between_the_two_looks_is_refused(signed: Path, trust: Trust) -> None:
    wanted = signed_manifest(signed, trust)
    (signed / MANIFEST).write_bytes((write_signable(signed.parent / "other", seed=1) / MANIFEST).read_bytes())
    with pytest.raises(TrustError, match="manifest.json is not what was signed"):
        Bundle.open(signed, manifest_sha256=wanted)


def test_keys(tmp_path: Path) -> None:
    made = PrivateKey.make(tmp_path / "a.key", "Dr. Łukasz, 2026", passphrase="correct horse", created="2026-11-27")
    assert stat.S_IMODE((tmp_path / "a.key").stat().st_mode) == 0o600
    assert PublicKey.read(tmp_path / "a.pub") == made
    (tmp_path / "dos.pub").write_bytes((tmp_path / "a.pub").read_bytes().replace(b"\n", b"\r\n"))
    assert PublicKey.read(tmp_path / "dos.pub").fingerprint == made.fingerprint
    plain = tmp_path / "plain.pub"
    plain.write_text(made.pem)  # another program's
    assert PublicKey.read(plain) == PublicKey("plain", "", made.pem)
    assert PrivateKey.read(tmp_path / "a.key", lambda: "correct horse").public_pem == made.pem
    with pytest.raises(TrustError, match="can't be read with this passphrase"):
        PrivateKey.read(tmp_path / "a.key", lambda: "wrong")
    with pytest.raises(TrustError, match="is protected by a passphrase"):
        PrivateKey.read(tmp_path / "a.key")
    with pytest.raises(TrustError, match="a.key is a private key, which only its maker may have"):
        PublicKey.read(tmp_path / "a.key")
    with pytest.raises(StorageError, match="a key is never replaced"):
        PrivateKey.make(tmp_path / "a.key", "again")
    for name in ("", "two\nlines", "x" * 101, "\x1b[31m"):
        with pytest.raises(TrustError, match="a key's name is one line"):
            PrivateKey.make(tmp_path / "b.key", name)
    assert not (tmp_path / "b.key").exists()


@pytest.mark.parametrize("carried", [MANIFEST, "kit.json"])
def test_no_private_key_is_made_or_used_within_what_is_carried(carried: str, tmp_path: Path) -> None:
    (tmp_path / "stick" / "deep").mkdir(parents=True)
    (tmp_path / "stick" / carried).write_text("{}")
    (tmp_path / "link").symlink_to(tmp_path / "stick" / "deep")
    for place in (tmp_path / "stick" / "deep" / "a.key", tmp_path / "link" / "a.key"):
        with pytest.raises(TrustError, match="which is given to others; keep private keys elsewhere"):
            PrivateKey.make(place, "a")
    make_key(tmp_path, "a")
    shutil.copy(tmp_path / "a.key", tmp_path / "stick" / "a.key")
    with pytest.raises(TrustError, match="keep private keys elsewhere"):
        PrivateKey.read(tmp_path / "stick" / "a.key")


def test_keys_of_other_kinds_are_refused(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    kinds = {
        "rsa": rsa.generate_private_key(65537, 2048), "ed25519": ed25519.Ed25519PrivateKey.generate(),
        "k1": ec.generate_private_key(ec.SECP256K1()), "p521": ec.generate_private_key(ec.SECP521R1()),
    }  # fmt: skip
    for name, key in kinds.items():
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (tmp_path / f"{name}.key").write_bytes(private)
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (tmp_path / f"{name}.pub").write_bytes(public)
        with pytest.raises(TrustError, match="is a key of another kind than medge uses"):
            PrivateKey.read(tmp_path / f"{name}.key")
        with pytest.raises(TrustError, match="is a key of another kind than medge uses"):
            PublicKey.read(tmp_path / f"{name}.pub")
    for content in (b"", b"x", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"):
        (tmp_path / "bad.pub").write_bytes(content)
        with pytest.raises(TrustError, match="is no public key"):
            PublicKey.read(tmp_path / "bad.pub")
        with pytest.raises(TrustError, match="is no private key"):
            PrivateKey.read(tmp_path / "bad.pub")


def test_a_key_on_p384_is_taken(tmp_path: Path, signed: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = ec.generate_private_key(ec.SECP384R1())
    (tmp_path / "l.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "l.pub").write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    sign_bundle(signed, PrivateKey.read(tmp_path / "l.key"))
    assert verify_bundle(signed, trusting(tmp_path / "own", tmp_path / "l.pub"))


def test_without_the_extra_one_sentence_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signed: Path) -> None:
    (tmp_path / "trust" / "keys").mkdir(parents=True)
    (tmp_path / "trust" / "trust.json").write_text('{"policy": "refuse", "counter": 0, "format": 1}')
    shutil.copy(tmp_path / "makers.pub", tmp_path / "trust" / "keys" / "makers.pub")
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'medge\[trust\]'"):
        medge.load(signed, trust=tmp_path / "trust")
    with pytest.raises(MissingExtraError, match=r"pip install 'medge\[trust\]'"):
        PrivateKey.make(tmp_path / "b.key", "b")


def test_what_asks_for_no_signature_loads_nothing_of_cryptography() -> None:
    code = "import sys, medge; medge.load, medge.load_encoder; print([m for m in sys.modules if 'cryptography' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# model-signing, the reference


def model_signing(*words: str | Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("model_signing", reason="pip install --group test")
    command = [sys.executable, "-m", "model_signing", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_model_signing_accepts_what_medge_signs(signed: Path, tmp_path: Path, key: PrivateKey) -> None:
    told = ("--signature", signed / SIGNATURE, "--public_key", tmp_path / "makers.pub")
    done = model_signing("verify", "key", signed, *told)
    assert done.returncode == 0, done.stdout + done.stderr
    (signed / VISION).write_bytes(b"x" * 30_000)
    assert model_signing("verify", "key", signed, *told).returncode != 0
    kit = tmp_path / "kit.json"
    kit.write_text("{}")
    told = ("--signature", sign_file(kit, key), "--public_key", tmp_path / "makers.pub")
    done = model_signing("verify", "key", kit, *told)
    assert done.returncode == 0, done.stdout + done.stderr


def test_medge_accepts_what_model_signing_signs(tmp_path: Path, key: PrivateKey, trust: Trust) -> None:
    folder = write_signable(tmp_path / "eyes")
    told = ("--private_key", tmp_path / "makers.key", "--signature")
    done = model_signing("sign", "key", folder, *told, folder / SIGNATURE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert verify_bundle(folder, trust)
    (folder / VISION).write_bytes(b"x" * 30_000)
    with pytest.raises(TrustError, match="vision_model.onnx was changed after it was signed"):
        verify_bundle(folder, trust)
    kit = tmp_path / "kit.json"
    kit.write_text("{}")
    # The private key lies beside a kit here, which medge itself would refuse.
    done = model_signing("sign", "key", kit, *told, tmp_path / "kit.sig")
    assert done.returncode == 0, done.stdout + done.stderr
    assert verify_file(kit, tmp_path / "kit.sig", trust)


def test_the_statement_is_that_of_model_signing(signed: Path, tmp_path: Path, key: PrivateKey) -> None:
    """Not only accepted: the same files in the same order under the same sum."""
    ours = json.loads(Envelope.parse((signed / SIGNATURE).read_bytes(), signed).payload)
    done = model_signing(
        "sign", "key", signed, "--private_key", tmp_path / "makers.key", "--signature", signed / SIGNATURE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    theirs = json.loads(Envelope.parse((signed / SIGNATURE).read_bytes(), signed).payload)
    assert ours["subject"] == theirs["subject"]
    assert ours["predicate"]["resources"] == theirs["predicate"]["resources"]
    assert theirs["predicateType"] == statement.PREDICATE
