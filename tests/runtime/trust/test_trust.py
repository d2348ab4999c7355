"""Which keys a device trusts: added, signed by others, revoked; and what somebody tries who has one of them."""

from __future__ import annotations

import base64
import json
import random
import shutil
from pathlib import Path

import pytest
from signed_bundles import fingerprint, make_key, trusting

from medge.runtime.errors import TrustError
from medge.runtime.trust.documents import (
    REVOCATIONS,
    ROTATION,
    Revocations,
    Revoked,
    read_revocations,
    sign_revocations,
    sign_rotation,
)  # fmt: skip
from medge.runtime.trust.envelope import Envelope
from medge.runtime.trust.keys import PrivateKey, PublicKey
from medge.runtime.trust.signing import sign_file
from medge.runtime.trust.trust import Trust, make_trust, short
from medge.runtime.trust.verifying import verify_file


class Makers:
    """Keys by name, what they sign, and a device that trusts the first of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys: dict[str, PrivateKey] = {}
        self.trust = trusting(folder / "trust", self.public("old"))

    def key(self, name: str) -> PrivateKey:
        if name not in self.keys:
            self.keys[name] = make_key(self.folder, name)
        return self.keys[name]

    def public(self, name: str) -> Path:
        self.key(name)
        return self.folder / f"{name}.pub"

    def rotation(self, new: str, by: str) -> Path:
        path = self.folder / f"{new}-by-{by}.rotation"
        path.write_bytes(sign_rotation(PublicKey.read(self.public(new)), self.key(by)))
        return path

    def revocations(self, by: str, *revoked: Revoked, counter: int = 1) -> Path:
        path = self.folder / f"revoked-{counter}-by-{by}.json"
        body = {"counter": counter, "created": "2026-11-27", "format": 1,
                "revoked": [{"key": one.key, "reason": one.reason, "keeps": list(one.keeps)} for one in revoked]}  # fmt: skip
        path.write_bytes(self.key(by).sign(json.dumps(body).encode(), REVOCATIONS).to_json())
        return path

    def bad(self, name: str, *keeps: str) -> Revoked:
        return Revoked(
            fingerprint(self.key(name)), f"{name} was stolen", tuple(fingerprint(self.key(k)) for k in keeps)
        )

    def trusts(self) -> set[str]:
        """The names of the keys whose signatures the device takes, as it reads its folder anew."""
        found = Trust.open(self.trust.folder)
        taken: set[str] = set()
        for name, key in self.keys.items():
            file = self.folder / "signed.txt"
            file.write_text("x")
            signature = sign_file(file, key)
            try:
                verify_file(file, signature, found)
            except TrustError:
                continue
            taken.add(name)
        return taken


@pytest.fixture
def makers(tmp_path: Path) -> Makers:
    return Makers(tmp_path)


def test_several_keys_are_trusted(makers: Makers) -> None:
    makers.trust.add(makers.public("second"))
    makers.key("stranger")
    assert makers.trusts() == {"old", "second"}


def test_a_new_key_is_trusted_by_the_old_ones_signature(makers: Makers) -> None:
    with pytest.raises(TrustError, match="which this device does not trust"):
        makers.trust.add(makers.rotation("newer", "new"))
    assert makers.trust.add(makers.rotation("new", "old")).name == "new"
    makers.trust.add(makers.rotation("newer", "new"))
    assert makers.trusts() == {"old", "new", "newer"}
    found = Trust.open(makers.trust.folder)
    assert found.vouchers[fingerprint(makers.key("new"))] == (fingerprint(makers.key("old")),)
    assert found.vouchers[fingerprint(makers.key("old"))] == ()


def test_a_rotation_that_names_another_key_as_its_signer_is_refused(makers: Makers) -> None:
    path = makers.rotation("evil", "stranger")
    body = json.loads(path.read_bytes())
    body["verificationMaterial"]["publicKey"]["hint"] = fingerprint(makers.key("old"))
    path.write_text(json.dumps(body))
    with pytest.raises(TrustError, match="is not signed by the key that it names, old"):
        makers.trust.add(path)
    shutil.copy(path, makers.trust.folder / "keys" / "evil.rotation")  # past the command
    with pytest.raises(TrustError, match="evil.rotation is not signed by the key that it names"):
        Trust.open(makers.trust.folder)


def test_what_one_kind_of_document_says_is_not_taken_for_another(makers: Makers) -> None:
    rotation, revoked = makers.rotation("new", "old"), makers.revocations("old", makers.bad("new"))
    with pytest.raises(TrustError, match="a signature, but not of a list of revoked keys"):
        makers.trust.revoke(rotation)
    (makers.folder / "x.rotation").write_bytes(revoked.read_bytes())
    with pytest.raises(TrustError, match="a signature, but not of a new key"):
        makers.trust.add(makers.folder / "x.rotation")
    envelope = Envelope.parse(rotation.read_bytes(), rotation)
    relabelled = Envelope(envelope.hint, REVOCATIONS, revoked.read_bytes(), envelope.signature)
    revoked.write_bytes(relabelled.to_json())
    with pytest.raises(TrustError, match="x.json|revoked-1-by-old.json"):
        makers.trust.revoke(revoked)


def test_a_revoked_key_and_what_it_has_signed_go(makers: Makers) -> None:
    makers.trust.add(makers.rotation("new", "old"))
    makers.trust.add(makers.rotation("evil", "old"))  # whoever stole the old key made it
    makers.trust.add(makers.rotation("worse", "evil"))
    assert makers.trusts() == {"old", "new", "evil", "worse"}
    taken = makers.trust.revoke(makers.revocations("new", makers.bad("old", "new")))
    assert taken.counter == 1
    assert makers.trusts() == {"new"}
    with pytest.raises(TrustError, match=r"which was revoked: old was stolen; ask for one that is signed anew"):
        verify_file(makers.folder / "signed.txt", sign_file(makers.folder / "signed.txt", makers.key("old")),
                    Trust.open(makers.trust.folder))  # fmt: skip
    with pytest.raises(TrustError, match="holds the key .* which was revoked"):
        makers.trust.add(makers.public("old"))
    with pytest.raises(TrustError, match="which was revoked"):
        makers.trust.add(makers.rotation("fresh", "old"))
    makers.trust.add(makers.public("fresh"))  # a person can still vouch for it
    assert makers.trusts() == {"new", "fresh"}


def test_a_key_may_revoke_itself(makers: Makers) -> None:
    makers.trust.add(makers.public("second"))
    makers.trust.revoke(makers.revocations("old", makers.bad("old")))
    assert makers.trusts() == {"second"}
    makers.trust.revoke(makers.revocations("second", makers.bad("old"), makers.bad("third"), counter=2))
    with pytest.raises(TrustError, match="signed by the key .* which was revoked"):
        makers.trust.revoke(
            makers.revocations("old", makers.bad("old"), makers.bad("third"), makers.bad("second"), counter=3)
        )
    assert makers.trusts() == {"second"}


def test_older_lists_and_those_that_take_back_are_refused(makers: Makers) -> None:
    makers.trust.add(makers.rotation("new", "old"))
    first = makers.revocations("new", makers.bad("old", "new"), counter=3)
    makers.trust.revoke(first)
    makers.trust.revoke(first)  # the same again says nothing new
    for counter in (1, 2, 3):
        with pytest.raises(TrustError, match=f"is list {counter} of revoked keys, and this device has list 3"):
            makers.trust.revoke(makers.revocations("new", makers.bad("old", "new"), makers.bad("x"), counter=counter))
    with pytest.raises(TrustError, match="takes back that the key .* is revoked, which no list can"):
        makers.trust.revoke(makers.revocations("new", makers.bad("x"), counter=4))
    with pytest.raises(TrustError, match="keeps more keys of the revoked key"):
        makers.trust.revoke(makers.revocations("new", makers.bad("old", "new", "evil"), counter=4))
    with pytest.raises(TrustError, match="which this device does not trust"):
        makers.trust.revoke(makers.revocations("stranger", makers.bad("old", "new"), counter=4))
    makers.trust.revoke(makers.revocations("new", makers.bad("old", "new"), makers.bad("x"), counter=4))
    assert makers.trusts() == {"new"}


def test_a_list_can_not_be_taken_from_the_folder_nor_an_old_one_put_back(makers: Makers) -> None:
    makers.trust.add(makers.public("second"))
    makers.trust.revoke(makers.revocations("second", makers.bad("old"), counter=1))
    place = makers.trust.folder / "revoked.json"
    first = place.read_bytes()
    makers.trust.revoke(makers.revocations("second", makers.bad("old"), makers.bad("x"), counter=2))
    place.write_bytes(first)
    with pytest.raises(TrustError, match="is list 1, but this device has had list 2"):
        Trust.open(makers.trust.folder)
    place.unlink()
    with pytest.raises(TrustError, match="the list of revoked keys, is gone; put list 2 or a later one back"):
        Trust.open(makers.trust.folder)


def test_a_list_that_is_made_anew_continues_the_old_one(makers: Makers) -> None:
    path = makers.folder / "revoked.json"
    path.write_bytes(sign_revocations(None, makers.bad("a"), makers.key("old")))
    path.write_bytes(sign_revocations(read_revocations(path)[0], makers.bad("b"), makers.key("old")))
    found = read_revocations(path)[0]
    assert isinstance(found, Revocations)
    assert (found.counter, [one.key for one in found.revoked]) == (2, [fingerprint(makers.key(name)) for name in "ab"])
    twice = makers.revocations("old", makers.bad("a"), makers.bad("a"))
    with pytest.raises(TrustError, match="names a key twice"):
        makers.trust.revoke(twice)


def test_a_kit_brings_what_is_new_in_any_order(makers: Makers) -> None:
    carried = makers.folder / "kit-trust"
    carried.mkdir()
    shutil.copy(makers.rotation("b-new", "old"), carried / "2.rotation")
    shutil.copy(makers.rotation("a-newer", "b-new"), carried / "1.rotation")  # needs the other first
    shutil.copy(makers.revocations("a-newer", makers.bad("old", "b-new")), carried / "revoked.json")
    shutil.copy(makers.public("stranger"), carried / "stranger.pub")  # a carried folder can't vouch for itself
    told = makers.trust.learn(carried)
    assert [sentence.split(" is ")[1] for sentence in told] == ["trusted now", "trusted now", "revoked now"]
    assert short(fingerprint(makers.key("old"))) in told[2]
    assert makers.trusts() == {"b-new", "a-newer"}
    assert makers.trust.learn(carried) == []
    assert makers.trust.learn(makers.folder / "nothing") == []
    shutil.copy(makers.rotation("evil", "stranger"), carried / "3.rotation")  # for devices of others
    assert makers.trust.learn(carried) == []
    assert makers.trusts() == {"b-new", "a-newer"}


def test_what_a_stick_brings_has_to_be_signed_by_whom_it_says(makers: Makers) -> None:
    carried = makers.folder / "kit-trust"
    carried.mkdir()
    body = json.loads(makers.rotation("evil", "stranger").read_bytes())
    body["verificationMaterial"]["publicKey"]["hint"] = fingerprint(makers.key("old"))
    (carried / "1.rotation").write_text(json.dumps(body))
    with pytest.raises(TrustError, match="1.rotation is not signed by the key that it names, old"):
        makers.trust.learn(carried)
    (carried / "1.rotation").unlink()
    shutil.copy(makers.revocations("stranger", makers.bad("old")), carried / "revoked.json")
    with pytest.raises(TrustError, match="revoked.json is signed by the key .* which this device does not trust"):
        makers.trust.learn(carried)
    makers.trust.add(makers.public("second"))
    makers.trust.revoke(makers.revocations("second", makers.bad("x"), makers.bad("y"), counter=2))
    shutil.copy(makers.revocations("second", makers.bad("x"), counter=1), carried / "revoked.json")
    assert makers.trust.learn(carried) == []  # an older stick
    assert set(Trust.open(makers.trust.folder).revoked) == {fingerprint(makers.key(name)) for name in "xy"}


def test_a_damaged_trust_folder_trusts_nobody(makers: Makers) -> None:
    folder = makers.trust.folder
    makers.trust.add(makers.rotation("new", "old"))
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")):
        before = path.read_bytes()
        for content in (
            b"",
            before[: len(before) // 2],
            b"{}",
            b"\xff" * 40,
            before.replace(b"-----BEGIN", b"-----END"),
        ):
            if content == before or (content == b"{}" and path.name == "trust.json"):
                continue
            path.write_bytes(content)
            with pytest.raises(TrustError, match=path.name):
                Trust.open(folder)
        path.write_bytes(before)
    Trust.open(folder)
    with pytest.raises(TrustError, match="is no trust folder; make one with 'medge keys trust KEY.pub --to"):
        Trust.open(makers.folder / "nothing")
    with pytest.raises(TrustError, match="there is no policy 'strict'"):
        make_trust(makers.folder / "other", "strict")


@pytest.mark.parametrize("kind", [ROTATION, REVOCATIONS])
def test_documents_changed_at_random_are_refused(kind: str, makers: Makers) -> None:
    """Each changed byte: of the envelope, or of the payload under the envelope's own base64."""
    draw = random.Random(20)
    path = makers.rotation("new", "old") if kind == ROTATION else makers.revocations("old", makers.bad("new"))
    take = makers.trust.add if kind == ROTATION else makers.trust.revoke
    content = path.read_bytes()
    envelope = Envelope.parse(content, path)
    refused = 0
    for number in range(200):
        if number % 2:
            changed = bytearray(content)
            changed[draw.randrange(len(changed) - 1)] ^= 1 << draw.randrange(8)
        else:
            payload = bytearray(envelope.payload)
            payload[draw.randrange(len(payload))] ^= 1 << draw.randrange(8)
            changed = bytearray(content.replace(base64.b64encode(envelope.payload), base64.b64encode(payload)))
        path.write_bytes(changed)
        with pytest.raises(TrustError, match=path.name):
            take(path)
        refused += 1
    assert refused == 200
    assert makers.trusts() == {"old"}
