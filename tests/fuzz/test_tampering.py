"""A thousand signed bundles, tampered with by somebody who makes every hash right again but has not the makers' key."""

from __future__ import annotations

import base64
import dataclasses
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from signed_bundles import fingerprint, make_key, trusting

from medge.runtime.bundles.manifest import MANIFEST, SIGNATURE, sha256_file
from medge.runtime.errors import TrustError
from medge.runtime.trust import statement
from medge.runtime.trust.envelope import IN_TOTO, Envelope
from medge.runtime.trust.files import found_files
from medge.runtime.trust.keys import PrivateKey
from medge.runtime.trust.signing import sign_bundle
from medge.runtime.trust.trust import Trust
from medge.runtime.trust.verifying import verify_bundle

MANY = 1000
KINDS = ("manifest", "onnx", "gguf", "tensors")  # what of the campaign changes files of a bundle
CORPUS = sorted(path for kind in KINDS for path in (Path(__file__).parent / "corpus" / kind).glob("*.json"))


@dataclasses.dataclass
class Attacker:
    """Has a signed bundle, a key of their own, and medge's source; not the makers' private key."""

    key: PrivateKey
    makers: str  # the fingerprint of their key, which everybody knows

    def keep(self, folder: Path) -> None:
        """The signature stays as it is."""

    def reword(self, folder: Path) -> None:
        """What the signature lists fits the files; the signature itself does not."""
        old = Envelope.parse((folder / SIGNATURE).read_bytes(), folder)
        self._write(folder, dataclasses.replace(old, payload=self._payload(folder)))

    def sign(self, folder: Path) -> None:
        """All fits, under the attacker's key."""
        self._write(folder, self.key.sign(self._payload(folder), IN_TOTO))

    def pretend(self, folder: Path) -> None:
        """The same, said to be the makers'."""
        self._write(folder, dataclasses.replace(self.key.sign(self._payload(folder), IN_TOTO), hint=self.makers))

    def _payload(self, folder: Path) -> bytes:
        return statement.make(
            folder.name, {path: sha256_file(folder / path) for path in found_files(folder)}, (SIGNATURE,)
        )

    def _write(self, folder: Path, envelope: Envelope) -> None:
        (folder / SIGNATURE).unlink()  # a link to the sound one
        (folder / SIGNATURE).write_bytes(envelope.to_json())


# {what the attacker does with the signature: what every refusal says}; {} is the changed file, or the manifest.
SAYS: dict[str, str] = {
    "keep": "{} is not what was signed",
    "reword": "model.sig is not signed by the key that it names, makers",
    "sign": "which this device does not trust",
    "pretend": "model.sig is not signed by the key that it names, makers",
}


@pytest.fixture(scope="module")
def base(export_extra: None, llm_extra: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The campaign's bundles, signed by their makers; twenty seconds, unless `make fuzz` has made them."""
    from fuzz.base import ENCODER, ONNX_READER, READER, ROOT, prepare

    place, made = tmp_path_factory.mktemp("signed"), prepare(ROOT / ".fuzz")
    key = make_key(place / "keys", "makers")
    for path in made.iterdir():
        if path.is_dir():
            shutil.copytree(path, place / path.name)
        else:
            shutil.copy(path, place)
    for name in (ENCODER, READER, ONNX_READER):
        sign_bundle(place / name, key)
    return place


@pytest.fixture(scope="module")
def trust(base: Path) -> Trust:
    return trusting(base / "trust", base / "keys" / "makers.pub")


def cases(base: Path) -> Iterator[dict[str, Any]]:
    """What ever made medge fail, then changes at random."""
    from fuzz.bundles import EDITORS
    from fuzz.kinds import KINDS as MAKERS
    from fuzz.kinds.tensors import PROBE

    def made() -> Iterator[bytes]:
        yield from (path.read_bytes() for path in CORPUS)
        draw = random.Random("tampering")
        while True:
            yield MAKERS[draw.choice(KINDS)].make(draw, base)

    for content in made():
        case = json.loads(content)
        if case.get("file") in (None, "", PROBE):
            continue
        old = (base / case["bundle"] / case["file"]).read_bytes()
        try:
            case["content"] = EDITORS[case["do"]](old, case["edits"])
        except (TypeError, KeyError):  # the first edit took away what the second one changes
            continue
        if case["content"] != old:
            yield case


def test_a_thousand_tampered_bundles_are_refused_by_name(base: Path, trust: Trust, tmp_path: Path) -> None:
    from fuzz.bundles import lay_out

    attacker = Attacker(make_key(tmp_path / "keys", "attacker"), next(iter(trust.keys)))
    assert attacker.makers != fingerprint(attacker.key)
    ways: dict[str, Callable[[Path], None]] = {name: getattr(attacker, name) for name in SAYS}
    seen: Counter[tuple[str, str]] = Counter()
    tried = cases(base)
    while sum(seen.values()) < MANY:
        case, way = next(tried), list(ways)[sum(seen.values()) % len(ways)]
        folder = tmp_path / case["bundle"]
        lay_out(base / case["bundle"], folder, case["file"], case["content"])
        if (folder / MANIFEST).read_bytes() != (base / case["bundle"] / MANIFEST).read_bytes():
            ways[way](folder)
            with pytest.raises(TrustError) as caught:
                verify_bundle(folder, trust)
            said = str(caught.value)
            assert str(folder) in said
            if case["file"] != MANIFEST:  # a changed manifest may list any file otherwise
                assert SAYS[way].format(case["file"]) in said
            else:
                assert SAYS[way].format("") in said
            seen[case["file"], way] += 1
        shutil.rmtree(folder)
    assert len({file for file, _ in seen}) > 8
    assert {way for _, way in seen} == set(SAYS)


def test_what_is_changed_without_care_for_hashes_is_refused_as_well(base: Path, trust: Trust, tmp_path: Path) -> None:
    """The other half: a file is changed, and all that is said of it stays; verification reads every byte."""
    from fuzz.bundles import lay_out

    refused = 0
    for case in cases(base):
        folder = tmp_path / case["bundle"]
        lay_out(base / case["bundle"], folder, case["file"], case["content"], seal=False)
        if case["file"] != MANIFEST:
            (folder / MANIFEST).write_bytes((base / case["bundle"] / MANIFEST).read_bytes())
        with pytest.raises(
            TrustError, match=rf"{case['file']} (was changed after it was signed|is not what was signed)"
        ):
            verify_bundle(folder, trust)
        shutil.rmtree(folder)
        refused += 1
        if refused == 100:
            break
    assert refused == 100


def test_the_sound_ones_are_taken(base: Path, trust: Trust) -> None:
    from fuzz.base import ENCODER, ONNX_READER, READER

    for name in (ENCODER, READER, ONNX_READER):
        signer = verify_bundle(base / name, trust)
        assert signer is not None
        assert signer.name == "makers"
    payload = json.loads((base / ENCODER / SIGNATURE).read_bytes())["dsseEnvelope"]["payload"]
    assert MANIFEST in {one["name"] for one in json.loads(base64.b64decode(payload))["predicate"]["resources"]}
