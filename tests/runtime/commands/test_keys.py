"""`medge keys`, `medge verify --trust`."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

import pytest
from command_line import medge
from signed_bundles import fingerprint, write_signable

from medge.runtime.bundles.manifest import SIGNATURE
from medge.runtime.trust.keys import PrivateKey


def test_a_bundle_goes_from_its_makers_to_a_device(bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    private, trust = tmp_path / "keys/makers.key", tmp_path / "trust"
    said = medge("keys", "new", "Makers 2026", "--out", private).stdout
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert fingerprint(PrivateKey.read(private)) in said
    facts = json.loads(medge("keys", "show", private.with_suffix(".pub"), "--json").stdout)
    assert (facts["name"], facts["fingerprint"]) == ("Makers 2026", fingerprint(PrivateKey.read(private)))
    assert "policy refuse" in medge("keys", "trust", private.with_suffix(".pub"), "--to", trust).stdout
    refused = medge("verify", copy, "--trust", trust, code=1)
    assert "copy is not signed" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert str(copy / SIGNATURE) in medge("keys", "sign", copy, "--key", private).stdout
    assert "signed by Makers 2026 (" in medge("verify", copy, "--trust", trust).stdout
    told = json.loads(medge("verify", copy, "--trust", trust, "--json").stdout)
    assert told["holds"]
    assert told["signed_by"]["fingerprint"] == facts["fingerprint"]
    (copy / SIGNATURE).unlink()
    medge("keys", "trust", "--to", trust, "--policy", "warn")
    warned = medge("verify", copy, "--trust", trust, "--json")
    assert "copy is not signed" in warned.stderr
    assert json.loads(warned.stdout)["signed_by"] is None
    assert "signed_by" not in json.loads(medge("verify", copy, "--json").stdout)


def test_a_key_is_followed_by_another_and_revoked(tmp_path: Path) -> None:
    for name in ("old", "new"):
        medge("keys", "new", name, "--out", f"{name}.key", cwd=tmp_path)
    medge("keys", "trust", "old.pub", "--to", "trust", cwd=tmp_path)
    wrong = medge("keys", "rotate", "new.pub", "--key", "old.key", "--out", "new.txt", code=1, cwd=tmp_path)
    assert "needs the ending .rotation" in wrong.stderr
    medge("keys", "rotate", "new.pub", "--key", "old.key", "--out", "new.rotation", cwd=tmp_path)
    assert (
        "exists"
        in medge("keys", "rotate", "new.pub", "--key", "old.key", "--out", "new.rotation", code=1, cwd=tmp_path).stderr
    )
    assert "said to be signed by" in medge("keys", "show", "new.rotation", cwd=tmp_path).stdout
    words = ("--key", "new.key", "--keep", "new.pub", "--list", "revoked.json", "--reason", "a laptop was stolen")
    medge("keys", "revoke", "old.pub", *words, cwd=tmp_path)
    told = medge("keys", "trust", "new.rotation", "revoked.json", "--to", "trust", cwd=tmp_path).stdout
    assert "the key new (" in told
    assert "is revoked now" in told
    shown = medge("keys", "show", "trust", cwd=tmp_path).stdout
    assert "REVOKED a laptop was stolen" in shown
    facts = json.loads(medge("keys", "show", "trust", "--json", cwd=tmp_path).stdout)
    assert [key["name"] for key in facts["keys"]] == ["new"]
    assert facts["revocation_list"] == 1
    assert [one["reason"] for one in facts["revoked"]] == ["a laptop was stolen"]
    medge("keys", "new", "third", "--out", "third.key", cwd=tmp_path)
    listed = json.loads(medge("keys", "revoke", "third.pub", *words[:2], *words[4:6], "--json", cwd=tmp_path).stdout)
    assert (listed["counter"], len(listed["revoked"])) == (2, 2)
    assert "old was" not in medge("keys", "trust", "old.pub", "--to", "trust", code=1, cwd=tmp_path).stderr


def test_a_passphrase_is_a_line_of_standard_input(tmp_path: Path) -> None:
    medge("keys", "new", "makers", "--out", "a.key", "--passphrase", cwd=tmp_path, said="correct horse\n")
    write_signable(tmp_path / "eyes")
    wrong = medge("keys", "sign", "eyes", "--key", "a.key", cwd=tmp_path, said="wrong\n", code=1)
    assert "can't be read with this passphrase" in wrong.stderr
    assert "holds no passphrase" in medge("keys", "sign", "eyes", "--key", "a.key", cwd=tmp_path, code=1).stderr
    medge("keys", "sign", "eyes", "--key", "a.key", cwd=tmp_path, said="correct horse\n")
    assert (tmp_path / "eyes" / SIGNATURE).is_file()
    (tmp_path / "note.txt").write_text("x")
    told = medge("keys", "sign", "note.txt", "--key", "a.key", "--json", cwd=tmp_path, said="correct horse\n").stdout
    assert json.loads(told)["signature"] == "note.sig"
    assert (tmp_path / "note.sig").is_file()


@pytest.mark.parametrize("words", [
    ("new", "x", "--out", "eyes/x.key"), ("show", "nothing.pub"), ("show", "eyes"), ("sign", "eyes", "--key", "nothing.key"),
    ("trust", "nothing.pub", "--to", "trust"), ("trust", "--to", "trust", "--policy", "strict"),
    ("rotate", "nothing.pub", "--key", "nothing.key", "--out", "x.rotation"),
    ("sign", "eyes", "--key", "nothing.key", "--signature", "x"),
])  # fmt: skip
def test_mistakes_are_told_in_one_sentence(words: tuple[str, ...], tmp_path: Path) -> None:
    write_signable(tmp_path / "eyes")
    done = medge("keys", *words, code=1, cwd=tmp_path)
    assert done.stderr.startswith("medge: ")
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "eyes/x.key").exists()
