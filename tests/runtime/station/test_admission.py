"""A station uses the bundles that its device trusts, and hashes each once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import medge
from signed_bundles import VISION, make_key, trusting, write_signable

from medge.runtime.bundles import bundle as bundles
from medge.runtime.bundles.manifest import MANIFEST, SIGNATURE
from medge.runtime.errors import BundleError, StationError, TrustError, TrustWarning
from medge.runtime.station.models.admission import Admission
from medge.runtime.station.models.catalogue import Catalogue
from medge.runtime.trust.documents import Revoked, sign_revocations
from medge.runtime.trust.keys import PublicKey
from medge.runtime.trust.signing import sign_bundle
from medge.runtime.trust.trust import Trust


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Bundles `eyes`, signed, and `other`, not; a trust folder."""
    key = make_key(tmp_path / "keys", "makers")
    sign_bundle(write_signable(tmp_path / "bundles/eyes"), key)
    write_signable(tmp_path / "bundles/other", seed=1)
    trusting(tmp_path / "trust", tmp_path / "keys/makers.pub")
    return tmp_path


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files that openings hash."""
    names: list[str] = []
    sound: Callable[[Path], str] = bundles.sha256_file

    def watched(path: Path) -> str:
        names.append(path.name)
        return sound(path)

    monkeypatch.setattr(bundles, "sha256_file", watched)
    return names


def test_a_bundle_that_is_not_signed_is_left_out(place: Path) -> None:
    found = Catalogue.read(place / "bundles", admission=Admission(place / "trust"))
    assert list(found.entries) == ["eyes"]
    assert "other is not signed, and this device uses signed bundles" in found.refused["other"]
    assert list(Catalogue.read(place / "bundles").entries) == ["eyes", "other"]
    Trust.open(place / "trust").set_policy("warn")
    with pytest.warns(TrustWarning, match="other is not signed"):
        found = Catalogue.read(place / "bundles", admission=Admission(place / "trust"))
    assert list(found.entries) == ["eyes", "other"]
    shutil.rmtree(place / "bundles/eyes")
    Trust.open(place / "trust").set_policy("refuse")
    with pytest.raises(StationError, match="holds no bundle that can be served: .*other is not signed"):
        Catalogue.read(place / "bundles", admission=Admission(place / "trust"))


def test_bytes_are_hashed_at_the_first_opening_only(place: Path, hashed: list[str]) -> None:
    eyes, memory = place / "bundles/eyes", place / "checked.json"

    def openings(*, trust: Path | None = place / "trust", memory: Path | None = memory) -> int:
        hashed.clear()
        Admission(trust, memory).open(eyes, allow_failed_parity=False)
        return len([name for name in hashed if name == "vision_model.onnx"])

    assert [openings() for _ in range(3)] == [1, 0, 0]
    assert [openings(trust=None) for _ in range(2)] == [1, 1]  # as it is without trust
    assert [openings(memory=None) for _ in range(2)] == [1, 1]
    os.utime(eyes / VISION)
    assert [openings() for _ in range(2)] == [1, 0]
    sign_bundle(eyes, make_key(place / "keys", "second"))
    Trust.open(place / "trust").add(place / "keys/second.pub")
    assert [openings() for _ in range(2)] == [1, 0]
    memory.write_text("damaged")
    assert [openings() for _ in range(2)] == [1, 0]


def test_what_changes_after_it_was_hashed_is_refused(place: Path) -> None:
    eyes, admission = place / "bundles/eyes", Admission(place / "trust", place / "checked.json")
    admission.open(eyes, allow_failed_parity=False)
    content = (eyes / VISION).read_bytes()
    (eyes / VISION).write_bytes(content[:-1] + b"x")
    with pytest.raises(BundleError, match="vision_model.onnx was changed"):
        admission.open(eyes, allow_failed_parity=False)
    (eyes / VISION).write_bytes(content)
    admission.open(eyes, allow_failed_parity=False)
    (eyes / "added.bin").write_bytes(b"x")
    with pytest.raises(TrustError, match="holds added.bin"):
        admission.open(eyes, allow_failed_parity=False)
    (eyes / "added.bin").unlink()
    (eyes / MANIFEST).write_bytes((place / "bundles/other" / MANIFEST).read_bytes())
    with pytest.raises(TrustError, match="is not what was signed"):
        admission.open(eyes, allow_failed_parity=False)


def test_a_key_that_is_revoked_while_the_station_runs_opens_nothing_more(place: Path) -> None:
    eyes, admission = place / "bundles/eyes", Admission(place / "trust", place / "checked.json")
    admission.open(eyes, allow_failed_parity=False)
    Trust.open(place / "trust").add(make_key(place / "keys", "second").path.with_suffix(".pub"))
    from medge.runtime.trust.keys import PrivateKey

    bad = Revoked(PublicKey.read(place / "keys/makers.pub").fingerprint, "stolen")
    (place / "revoked.json").write_bytes(sign_revocations(None, bad, PrivateKey.read(place / "keys/second.key")))
    Trust.open(place / "trust").revoke(place / "revoked.json")
    with pytest.raises(TrustError, match="was revoked: stolen"):
        admission.open(eyes, allow_failed_parity=False)
    assert (eyes / SIGNATURE).is_file()


def test_the_command_says_what_it_leaves_out(place: Path) -> None:
    shutil.rmtree(place / "bundles/eyes")
    done = medge("serve", "--bundles", place / "bundles", "--trust", place / "trust", code=1)
    assert "other is not signed, and this device uses signed bundles" in done.stderr
