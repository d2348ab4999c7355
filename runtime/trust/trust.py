"""The keys that a device trusts, as a folder:

    trust.json     {"format": 1, "policy": "off" | "warn" | "refuse", "counter": of the newest revocation list that was taken}
    keys/*.pub     keys that a person has put there
    keys/*.rotation  keys that such a key has signed
    revoked.json   the newest revocation list

Whoever can write the folder decides what the device trusts; it is for the device's administrator only. A phone reads the same.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from ..bundles.atomic import replace_bytes, replace_text
from ..bundles.claim import claimed
from ..bundles.typed_json import build, parse
from ..errors import TrustError
from .documents import Revocations, Rotation, read_revocations
from .envelope import Envelope, read_small
from .keys import PUBLIC, PublicKey

Policy = Literal["off", "warn", "refuse"]
STATE, KEYS, REVOKED, ROTATED = "trust.json", "keys", "revoked.json", ".rotation"
ENVIRONMENT = "MEDGE_TRUST"


@dataclass(frozen=True)
class _State:
    policy: Policy = "refuse"
    counter: int = 0
    format: Literal[1] = 1


@dataclass(frozen=True)
class Signer:
    """Whose signature held.

    Attributes:
        name: of the key.
        fingerprint: of the key.
    """

    name: str
    fingerprint: str

    def __str__(self) -> str:
        return f"{self.name} ({short(self.fingerprint)})"


@dataclass(frozen=True)
class Trust:
    """What a trust folder says; as it was when it was opened.

    Attributes:
        folder: where it lies.
        policy: what becomes of what isn't signed by a trusted key: "off" looks at no signature, "warn" tells, "refuse" refuses.
        keys: {fingerprint: key} of those that are trusted.
        revocations: the list in force; None where there was none yet.
        vouchers: {fingerprint: those of the keys that vouch for it}; none for a key that a person has put there.
    """

    folder: Path
    policy: Policy
    keys: dict[str, PublicKey]
    revocations: Revocations | None = None
    vouchers: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: str | Path) -> Trust:
        """Read a trust folder, and check all that is signed in it.

        Raises:
            TrustError: there is none, or something in it is damaged, missing or not signed by a key that was trusted.
        """
        folder = Path(folder)
        if not (folder / STATE).is_file():
            raise TrustError(f"{folder} is no trust folder; make one with 'medge keys trust KEY.pub --to {folder}'")
        state = _state(folder)
        placed = [PublicKey.read(path) for path in sorted((folder / KEYS).glob(f"*{PUBLIC}"))]
        rotations = [Rotation.read(path) for path in sorted((folder / KEYS).glob(f"*{ROTATED}"))]
        everyone = {key.fingerprint: key for key in (*placed, *(one.key for one in rotations))}
        for one in rotations:
            _check(one.envelope, everyone, one.path)
        found = _list_in_force(folder, state, everyone)
        keeps = {} if found is None else found.keeps()
        vouched = {key.fingerprint for key in placed}
        while more := {one.key.fingerprint for one in rotations if _vouches(one, vouched, keeps)} - vouched:
            vouched |= more
        vouchers = {
            key: tuple(
                sorted(one.by for one in rotations if one.key.fingerprint == key and _vouches(one, vouched, keeps))
            )
            for key in vouched
        }
        trusted = {key: everyone[key] for key in sorted(vouched) if key not in keeps}
        return cls(folder, state.policy, trusted, found, vouchers)

    @property
    def revoked(self) -> dict[str, str]:
        """{fingerprint: reason} of the keys that are revoked."""
        return {} if self.revocations is None else {one.key: one.reason for one in self.revocations.revoked}

    def check(self, envelope: Envelope, path: Path) -> Signer:
        """Whose signature an envelope is; `path` is of the file that it came from.

        Raises:
            TrustError: the key is unknown or revoked, or the signature is not by it.
        """
        hint = envelope.hint
        if hint in self.revoked:
            why = f": {self.revoked[hint]}" if self.revoked[hint] else ""
            raise TrustError(
                f"{path} is signed by the key {short(hint)}, which was revoked{why}; ask for one that is signed anew"
            )
        if hint not in self.keys:
            raise TrustError(
                f"{path} is signed by the key {short(hint)}, which this device does not trust; if it is its maker's, which they "
                "can tell you by its fingerprint, add it with 'medge keys trust'"
            )
        return _check(envelope, self.keys, path)

    def add(self, path: Path) -> PublicKey:
        """Trust a key from now on: one that a person vouches for (`.pub`), or that a trusted key has signed (`.rotation`).

        Raises:
            TrustError: it is neither, it is revoked, or who signed it is not trusted.
        """
        with claimed(self.folder / STATE):
            current = Trust.open(self.folder)
            if path.suffix == ROTATED:
                rotation = Rotation.read(path)
                key, content, ending = rotation.key, rotation.envelope.to_json(), ROTATED
                name = f"{key.fingerprint}-{rotation.by}"  # several may vouch for it
                current.check(rotation.envelope, path)
            else:
                key, ending = PublicKey.read(path), PUBLIC
                name, content = key.fingerprint, key.to_text().encode()
            if key.fingerprint in current.revoked:
                raise TrustError(f"{path} holds the key {short(key.fingerprint)}, which was revoked; ask for a new one")
            replace_bytes(self.folder / KEYS / f"{name}{ending}", content)
        return key

    def take(self, path: Path) -> list[str]:
        """Take whatever a file or folder brings: a public key, a rotation, a revocation list, or a folder of the latter two.

        Returns:
            A sentence for each thing that was new.

        Raises:
            TrustError: as `add`, `revoke` and `learn` do.
        """
        if path.is_dir():
            return self.learn(path)
        if path.suffix == ROTATED or b"-----BEGIN" in read_small(path):
            return [_trusted_now(self.add(path))]
        before = Trust.open(self.folder).revoked
        return [
            f"the key {short(one.key)} is revoked now" for one in self.revoke(path).revoked if one.key not in before
        ]

    def revoke(self, path: Path) -> Revocations:
        """Take a revocation list; the same one twice changes nothing.

        Raises:
            TrustError: it is not signed by a trusted key, is older than the one in force, or takes back what that one revoked.
        """
        with claimed(self.folder / STATE):
            current = Trust.open(self.folder)
            found, envelope = read_revocations(path)
            old = current.revocations
            if old is not None and found == old:
                return found
            current.check(envelope, path)
            if old is not None:
                _refuse_step_back(old, found, path)
            replace_bytes(self.folder / REVOKED, envelope.to_json())
            _write_state(self.folder, dataclasses.replace(_state(self.folder), counter=found.counter))
        return found

    def learn(self, folder: Path) -> list[str]:
        """Take what a carried folder brings: keys that trusted ones have signed, then a revocation list; no plain keys.

        A folder is for many devices: what others know, this one knows already, and an older list than its own is passed over.

        Args:
            folder: with files `*.rotation` and `revoked.json`, such as a kit's `trust`; may be missing.

        Returns:
            A sentence for each thing that was new.

        Raises:
            TrustError: a file is damaged, or not signed by whom it says; or a newer revocation list is refused, see `revoke`.
        """
        told: list[str] = []
        waiting = [(path, Rotation.read(path)) for path in sorted(folder.glob(f"*{ROTATED}"))]
        while True:  # a chain: a key that was signed by one that comes only with this folder
            current = Trust.open(self.folder)
            known = {*current.keys, *current.revoked}
            able = [path for path, one in waiting if one.by in current.keys and one.key.fingerprint not in known]
            if not able:
                break
            told.append(_trusted_now(self.add(able[0])))
        if (folder / REVOKED).exists():
            have = 0 if current.revocations is None else current.revocations.counter
            if read_revocations(folder / REVOKED)[0].counter > have:
                told += self.take(folder / REVOKED)
        return told

    def set_policy(self, policy: str) -> None:
        """Decide what becomes of what isn't signed by a trusted key.

        Raises:
            TrustError: there is no such policy.
        """
        with claimed(self.folder / STATE):
            _write_state(self.folder, dataclasses.replace(_state(self.folder), policy=checked_policy(policy)))


def make_trust(folder: Path, policy: str = "refuse") -> Trust:
    """The trust folder, made where it is not there yet; it trusts nobody at first.

    Raises:
        TrustError: there is no such policy, or the folder is damaged.
        StorageError: the file system refused.
    """
    with claimed(folder / STATE):
        if not (folder / STATE).exists():
            (folder / KEYS).mkdir(parents=True, exist_ok=True)
            _write_state(folder, _State(checked_policy(policy)))
    return Trust.open(folder)


def chosen(trust: Trust | str | Path | None) -> Trust | None:
    """The trust that is meant: the one that is given, or that the environment variable MEDGE_TRUST names; None for none."""
    if isinstance(trust, Trust):
        return trust
    folder = trust if trust is not None else os.environ.get(ENVIRONMENT)
    return Trust.open(folder) if folder else None


def checked_policy(policy: str) -> Policy:
    """A policy by its name.

    Raises:
        TrustError: there is none of that name.
    """
    for one in get_args(Policy):
        if policy == one:
            return one
    raise TrustError(f"there is no policy '{policy}'; take off, warn or refuse")


def _trusted_now(key: PublicKey) -> str:
    return f"the key {key.name} ({short(key.fingerprint)}) is trusted now"


def short(fingerprint: str) -> str:
    """A fingerprint as people compare it: its first 16 digits in fours."""
    return "-".join(fingerprint[start : start + 4] for start in range(0, 16, 4))


def _check(envelope: Envelope, keys: dict[str, PublicKey], path: Path) -> Signer:
    key = keys.get(envelope.hint)
    if key is None:
        raise TrustError(
            f"{path} is signed by the key {short(envelope.hint)}, which is not there; remove or replace the file"
        )
    if not key.has_signed(envelope):
        raise TrustError(
            f"{path} is not signed by the key that it names, {key.name} ({short(key.fingerprint)}); copy it again"
        )
    return Signer(key.name, key.fingerprint)


def _vouches(rotation: Rotation, vouched: set[str], keeps: dict[str, frozenset[str]]) -> bool:
    if rotation.by not in vouched:
        return False
    return rotation.by not in keeps or rotation.key.fingerprint in keeps[rotation.by]


def _state(folder: Path) -> _State:
    try:
        return build(_State, parse(read_small(folder / STATE, 4096)))
    except ValueError as error:
        raise TrustError(f"{folder / STATE} is damaged ({error}); make the trust folder again") from error


def _write_state(folder: Path, state: _State) -> None:
    replace_text(folder / STATE, json.dumps(dataclasses.asdict(state)) + "\n")


def _list_in_force(folder: Path, state: _State, everyone: dict[str, PublicKey]) -> Revocations | None:
    """The revocation list; it was checked when it was taken, and may have revoked the very key that signed it."""
    path = folder / REVOKED
    if not path.exists():
        if state.counter:
            raise TrustError(f"{path}, the list of revoked keys, is gone; put list {state.counter} or a later one back")
        return None
    found, envelope = read_revocations(path)
    _check(envelope, everyone, path)
    if found.counter < state.counter:
        raise TrustError(
            f"{path} is list {found.counter}, but this device has had list {state.counter}; put that one back"
        )
    return found


def _refuse_step_back(old: Revocations, new: Revocations, path: Path) -> None:
    if new.counter <= old.counter:
        raise TrustError(
            f"{path} is list {new.counter} of revoked keys, and this device has list {old.counter}; take a newer one"
        )
    before, after = old.keeps(), new.keeps()
    for key, kept in before.items():
        if key not in after:
            raise TrustError(
                f"{path} takes back that the key {short(key)} is revoked, which no list can; make it from the last one"
            )
        if after[key] - kept:
            raise TrustError(
                f"{path} keeps more keys of the revoked key {short(key)} than the list before it; trust them by hand"
            )
