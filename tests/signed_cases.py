"""Ways in which a signature is not what it should be, and bundles with them, for every language that checks signatures."""

from __future__ import annotations

import base64
import dataclasses
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from signed_bundles import VISION, fingerprint, make_key, trusting, write_signable

from medge.runtime.bundles.manifest import MANIFEST, SEAL_BYTES, SIGNATURE, Manifest, sha256_file
from medge.runtime.trust import statement
from medge.runtime.trust.documents import Revoked, sign_revocations, sign_rotation
from medge.runtime.trust.envelope import IN_TOTO, Envelope
from medge.runtime.trust.keys import PrivateKey, PublicKey
from medge.runtime.trust.signing import sign_bundle, sign_file


def reworded(content: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    body = json.loads(content)
    change(body)
    return json.dumps(body).encode()


def _payload(body: dict[str, Any], content: bytes) -> None:
    body["dsseEnvelope"]["payload"] = base64.b64encode(content).decode()


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "no JSON": lambda content: b"\xff" + content,
    "a list": lambda content: b"[" + content + b"]",
    "deep": lambda content: b"[" * 100_000,
    "a field twice": lambda content: content.replace(b'{"mediaType":', b'{"mediaType":"x","mediaType":', 1),
    "a payload twice": lambda content: content.replace(b'"payload":', b'"payload":"e30=","payload":', 1),
    "another media type": lambda content: content.replace(b"v0.3", b"v0.1"),
    "a certificate": lambda content: reworded(
        content, lambda body: body.update(verificationMaterial={"certificate": {"rawBytes": ""}})
    ),
    "raw bytes of a key": lambda content: reworded(
        content, lambda body: body["verificationMaterial"]["publicKey"].update(rawBytes="")
    ),
    "an entry of a log": lambda content: reworded(
        content, lambda body: body["verificationMaterial"].update(tlogEntries=[{}])
    ),
    "no hint": lambda content: reworded(content, lambda body: body["verificationMaterial"]["publicKey"].clear()),
    "no signature": lambda content: reworded(content, lambda body: body["dsseEnvelope"].update(signatures=[])),
    "two signatures": lambda content: reworded(
        content, lambda body: body["dsseEnvelope"].update(signatures=body["dsseEnvelope"]["signatures"] * 2)
    ),
    "a short signature": lambda content: reworded(
        content, lambda body: body["dsseEnvelope"]["signatures"][0].update(sig="MEUCIQ==")
    ),
    "zeros": lambda content: reworded(
        content, lambda body: body["dsseEnvelope"]["signatures"][0].update(sig="MAYCAQACAQA=")
    ),
    "loose bits in base64": lambda content: reworded(
        content, lambda body: body["dsseEnvelope"]["signatures"][0].update(sig="MAYCAQACAQB=")
    ),
    "blanks in base64": lambda content: reworded(
        content, lambda body: body["dsseEnvelope"].update(payload=" " + body["dsseEnvelope"]["payload"])
    ),
    "another algorithm": lambda content: reworded(
        content, lambda body: body["dsseEnvelope"]["signatures"][0].update(alg="none")
    ),
    "another key's name": lambda content: reworded(
        content, lambda body: body["dsseEnvelope"]["signatures"][0].update(keyid="0" * 64)
    ),
    "another payload type": lambda content: content.replace(b"application/vnd.in-toto+json", b"application/json"),
    "another payload": lambda content: reworded(content, lambda body: _payload(body, b"{}")),
    "a message signature": lambda content: reworded(
        content, lambda body: body.update(messageSignature=body.pop("dsseEnvelope"))
    ),
}


STATEMENTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "another predicate": lambda body: body.update(predicateType="https://model_signing/Digests/v0.1"),
    "another statement": lambda body: body.update(_type="https://in-toto.io/Statement/v0.1"),
    "two subjects": lambda body: body.update(subject=body["subject"] * 2),
    "another sum": lambda body: body["subject"][0].update(digest={"sha256": "0" * 64}),
    "pieces": lambda body: body["predicate"]["serialization"].update(method="shards"),
    "another hash": lambda body: body["predicate"]["serialization"].update(hash_type="blake3"),
    "links": lambda body: body["predicate"]["serialization"].update(allow_symlinks=True),
    "a file of another hash": lambda body: body["predicate"]["resources"][0].update(algorithm="md5"),
    "a path out of it": lambda body: body["predicate"]["resources"][0].update(name="../manifest.json"),
    "an absolute path": lambda body: body["predicate"]["resources"][0].update(name="/etc/passwd"),
    "a file twice": lambda body: body["predicate"]["resources"].append(body["predicate"]["resources"][0]),
    "no files": lambda body: body["predicate"].update(resources=[]),
    "files and one file": lambda body: body["predicate"]["resources"].append(
        {"name": ".", "algorithm": "sha256", "digest": "0" * 64}
    ),
    "a number for a hash": lambda body: body["predicate"]["resources"][0].update(digest=7),
    "no predicate": lambda body: body.pop("predicate"),
    "no list": lambda body: body.update(predicate=[]),
}


class Cases:
    """Folders `bundles/NAME` and `trusts/NAME`, and what a phone says of each pair: {"name", "bundle", "trust", "problem"}."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.rows: list[dict[str, str | None]] = []
        self.makers = make_key(place / "keys", "makers")
        self.good = write_signable(place / "bundles/good")
        sign_bundle(self.good, self.makers)
        self.signature = (self.good / SIGNATURE).read_bytes()
        trusting(place / "trusts/makers", place / "keys/makers.pub")
        self.add("signed", None)

    def add(self, name: str, problem: str | None, *, trust: str = "makers", bundle: Path | None = None) -> None:
        self.rows.append({"name": name, "bundle": str(bundle or self.good), "trust": str(self.place / "trusts" / trust),
                          "problem": problem})  # fmt: skip

    def copy(self, name: str) -> Path:
        return Path(shutil.copytree(self.good, self.place / "bundles" / name.replace(" ", "-")))

    def signed_as(self, name: str, problem: str | None, content: bytes | None) -> None:
        """The good bundle under another signature, or none."""
        folder = self.copy(name)
        (folder / SIGNATURE).unlink()
        if content is not None:
            (folder / SIGNATURE).write_bytes(content)
        self.add(name, problem, bundle=folder)

    def write(self) -> None:
        (self.place / "cases.json").write_text(json.dumps(self.rows, indent=1))


def write_cases(place: Path) -> None:
    """Bundles and trust folders, and `cases.json` with what the Android core says of each pair."""
    cases = Cases(place)
    cases.signed_as("unsigned", "UNSIGNED", None)
    forged = {"a short signature", "zeros", "another payload"}  # of the right form
    for name, change in DAMAGE.items():
        cases.signed_as(name, "SIGNATURE_FORGED" if name in forged else "SIGNATURE_DAMAGED", change(cases.signature))
    for name, reword in STATEMENTS.items():
        body = json.loads(Envelope.parse(cases.signature, place).payload)
        reword(body)
        cases.signed_as(name, "SIGNATURE_DAMAGED", cases.makers.sign(json.dumps(body).encode(), IN_TOTO).to_json())
    _add_others(cases)
    _add_tampered(cases)
    _add_trusts(cases)
    cases.write()


def _add_others(cases: Cases) -> None:
    """Signatures by other keys, and of other things."""
    stranger = make_key(cases.place / "keys", "stranger")
    payload = Envelope.parse(cases.signature, cases.place).payload
    cases.signed_as("a stranger's", "KEY_UNKNOWN", stranger.sign(payload, IN_TOTO).to_json())
    pretended = dataclasses.replace(stranger.sign(payload, IN_TOTO), hint=fingerprint(cases.makers))
    cases.signed_as("a stranger's as the makers'", "SIGNATURE_FORGED", pretended.to_json())
    other = write_signable(cases.place / "bundles/other", seed=1)
    sign_bundle(other, cases.makers)
    cases.signed_as("another bundle's", "NOT_WHAT_WAS_SIGNED", (other / SIGNATURE).read_bytes())
    single = sign_file(cases.good / MANIFEST, cases.makers, cases.place / "single.sig").read_bytes()
    cases.signed_as("a single file's", "SIGNATURE_DAMAGED", single)
    rotation = sign_rotation(PublicKey.read(cases.place / "keys/stranger.pub"), cases.makers)
    cases.signed_as("a rotation", "SIGNATURE_DAMAGED", rotation)


def _add_tampered(cases: Cases) -> None:
    """A file changed, and the manifest made to fit; a hundred times, each at another byte."""
    draw = random.Random(20)
    for number in range(100):
        folder = cases.copy(f"tampered {number}")
        path = draw.choice((VISION, "golden.safetensors", "tokenizer.json"))
        content = bytearray((folder / path).read_bytes())
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        (folder / path).write_bytes(content)
        old = Manifest.read(folder)
        files = tuple(
            dataclasses.replace(one, sha256=sha256_file(folder / path)) if one.path == path else one
            for one in old.files
        )
        (folder / MANIFEST).write_text(dataclasses.replace(old, files=files).to_json())
        problem = "NOT_WHAT_WAS_SIGNED"
        if number % 2:  # the signature's list is made to fit as well
            listed = {one.path: one.sha256 for one in files} | {MANIFEST: sha256_file(folder / MANIFEST)}
            signed = Envelope.parse(cases.signature, folder)
            reworded = dataclasses.replace(signed, payload=statement.make("good", listed))
            (folder / SIGNATURE).write_bytes(reworded.to_json())
            problem = "SIGNATURE_FORGED"
        cases.add(f"tampered {number}", problem, bundle=folder)
    relabelled = cases.copy("relabelled")
    (relabelled / MANIFEST).write_text(dataclasses.replace(Manifest.read(relabelled), name="another").to_json())
    assert (relabelled / MANIFEST).read_bytes()[-SEAL_BYTES:] != (cases.good / MANIFEST).read_bytes()[-SEAL_BYTES:]
    cases.add("relabelled", "NOT_WHAT_WAS_SIGNED", bundle=relabelled)


def _add_trusts(cases: Cases) -> None:
    """The good bundle on devices that trust other keys, and the same by other ways."""
    keys, trusts = cases.place / "keys", cases.place / "trusts"
    old, evil = make_key(keys, "old"), make_key(keys, "evil")

    def rotation(name: str, by: PrivateKey) -> Path:
        path = cases.place / f"{name}.rotation"
        path.write_bytes(sign_rotation(PublicKey.read(keys / f"{name}.pub"), by))
        return path

    def revoked(entry: Revoked, by: PrivateKey) -> Path:
        path = cases.place / "revoked.json"
        path.write_bytes(sign_revocations(None, entry, by))
        return path

    trusting(trusts / "stranger", keys / "stranger.pub")
    cases.add("on a stranger's device", "KEY_UNKNOWN", trust="stranger")
    rotated = trusting(trusts / "rotated", keys / "old.pub")
    rotated.add(rotation("makers", old))
    cases.add("by a rotation", None, trust="rotated")
    for name, keeps, problem in (("kept", (fingerprint(cases.makers),), None), ("dropped", (), "KEY_UNKNOWN")):
        trust = trusting(trusts / name, keys / "old.pub", keys / "evil.pub")
        trust.add(rotation("makers", old))
        trust.revoke(revoked(Revoked(fingerprint(old), "a laptop was stolen", keeps), by=evil))
        cases.add(f"after its voucher was revoked: {name}", problem, trust=name)
    trust = trusting(trusts / "revoked", keys / "makers.pub", keys / "old.pub")
    trust.revoke(revoked(Revoked(fingerprint(cases.makers), "lost"), by=cases.makers))
    cases.add("by a revoked key", "KEY_REVOKED", trust="revoked")
    for policy in ("warn", "off"):
        trusting(trusts / policy, keys / "stranger.pub", policy=policy)
        cases.add(f"policy {policy}", None, trust=policy)

    def damaged(name: str, source: str, path: str, content: bytes | None) -> None:
        folder = Path(shutil.copytree(trusts / source, trusts / name))
        (folder / path).unlink()
        if content is not None:
            (folder / path).write_bytes(content)
        cases.add(name, "TRUST_DAMAGED", trust=name)

    makers = f"keys/{fingerprint(cases.makers)}.pub"
    damaged("no state", "makers", "trust.json", None)
    damaged("a bad state", "makers", "trust.json", b'{"policy": "perhaps", "counter": 0, "format": 1}')
    damaged("a bad key", "makers", makers, b"x")
    damaged("a private key", "makers", makers, (keys / "makers.key").read_bytes())
    damaged("no list", "revoked", "revoked.json", None)
    damaged("a stranger's list", "revoked", "revoked.json",
            sign_revocations(None, Revoked(fingerprint(old)), make_key(keys, "nobody")))  # fmt: skip
    damaged("an older list", "revoked", "trust.json", b'{"policy": "refuse", "counter": 7, "format": 1}')
    (path,) = (trusts / "rotated/keys").glob("*.rotation")
    damaged("a stranger's rotation", "rotated", f"keys/{path.name}",
            sign_rotation(PublicKey.read(keys / "makers.pub"), make_key(keys, "other")))  # fmt: skip
