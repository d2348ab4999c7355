"""`medge keys new|show|sign|trust|rotate|revoke`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...console.options import ForceOption, JsonOption
from ...console.terminal import out, print_json

if TYPE_CHECKING:
    from ...trust.keys import PrivateKey, PublicKey

app = typer.Typer(no_args_is_help=True, help="Sign bundles and kits, and decide whose signatures a device trusts.")
SigningKey = Annotated[
    Path,
    typer.Option("--key", help="The private key; its passphrase is asked for, or read as a line of standard input."),
]
TrustFolder = Annotated[Path, typer.Option("--to", help="The device's trust folder; made where it is not there yet.")]


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="What people shall read, such as 'Makers 2026'.", show_default=False)],
    to: Annotated[Path, typer.Option("--out", help="The private key's file; the public one lies beside it as .pub.")],
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help="Protect the private key; asked for, or a line of standard input.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a key pair. The private key stays with you, on no stick and in no bundle; devices get the public one.

    Example: medge keys new "Makers 2026" --out makers-2026.key
    """
    from ...trust.keys import PrivateKey, refuse_carried

    refuse_carried(to)  # before a passphrase is thought of
    made = PrivateKey.make(to, name, passphrase=asked_passphrase(to, twice=True) if passphrase else None)
    if as_json:
        print_json({"private": str(to), "public": str(to.with_suffix(".pub")), **_facts(made)})
        return
    out.print(f"{to} signs; keep it to yourself, with a copy elsewhere", soft_wrap=True)
    out.print(f"{to.with_suffix('.pub')} is for devices; its fingerprint: {made.fingerprint}", soft_wrap=True)


@app.command()
def show(
    path: Annotated[Path, typer.Argument(help="A public key, a rotation or a trust folder.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Show a key's fingerprint, or what a device trusts. Compare fingerprints by telephone, not by what the stick says.

    Example: medge keys show makers-2026.pub
    """
    from ...trust.documents import Rotation
    from ...trust.keys import PublicKey
    from ...trust.trust import ROTATED

    if path.is_dir():
        _show_trust(path, as_json)
        return
    rotation = Rotation.read(path) if path.suffix == ROTATED else None
    key = PublicKey.read(path) if rotation is None else rotation.key
    if as_json:
        print_json(_facts(key) | ({"signed_by": rotation.by} if rotation else {}))
        return
    out.print(f"{key.name}, made {key.created or 'on a day that its file does not say'}", soft_wrap=True)
    out.print(f"fingerprint {key.fingerprint}", soft_wrap=True)
    if rotation:
        out.print(f"said to be signed by the key {rotation.by}; 'medge keys trust' checks it", soft_wrap=True)


@app.command()
def sign(
    path: Annotated[Path, typer.Argument(help="A bundle's folder, or a file.", show_default=False)],
    key: SigningKey,
    signature: Annotated[
        Path | None, typer.Option(help="Of a file: where its signature goes.", show_default="beside it, as .sig")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Sign a bundle, whose files are hashed first, or a single file; a bundle's signature lies in it, as model.sig.

    Sign last: what changes the bundle later (parity, thresholds) takes the signature away.

    Example: medge keys sign bundle --key makers-2026.key
    """
    from ...errors import TrustError
    from ...trust.signing import sign_bundle, sign_file

    if path.is_dir() and signature is not None:
        raise TrustError("a bundle's signature lies in the bundle; --signature is for files")
    opened = _private(key)
    written = sign_bundle(path, opened) if path.is_dir() else sign_file(path, opened, signature)
    if as_json:
        print_json({"signed": str(path), "signature": str(written)})
    else:
        out.print(f"wrote {written}", soft_wrap=True)


@app.command()
def trust(
    to: TrustFolder,
    what: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Public keys; rotations, revocation lists, or a folder of these, which trusted keys have signed.",
            show_default=False,
        ),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            help="Of what no trusted key has signed: off, warn or refuse.", show_default="as it is, at first refuse"
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Let a device trust a key, learn of new and revoked ones, and set its policy.

    Example: medge keys trust makers-2026.pub --to trust --policy refuse
    """
    from ...trust.trust import Trust, checked_policy, make_trust

    if policy is not None:
        checked_policy(policy)
    made = make_trust(to)
    told = [sentence for path in what or () for sentence in made.take(path)]
    if policy is not None:
        made.set_policy(policy)
    now = Trust.open(to)
    if as_json:
        print_json({"policy": now.policy, "changes": told, "keys": [_facts(key) for key in now.keys.values()]})
        return
    for sentence in told:
        out.print(sentence, soft_wrap=True)
    out.print(f"{to}: {len(now.keys)} trusted keys, policy {now.policy}", soft_wrap=True)


@app.command()
def rotate(
    new: Annotated[Path, typer.Argument(help="The new public key.", show_default=False)],
    key: SigningKey,
    to: Annotated[Path, typer.Option("--out", help="The rotation's file, with the ending .rotation.")],
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Sign a new key with an old one: devices that trust the old one trust the new one as well.

    The old one stays trusted until it is revoked.

    Example: medge keys rotate makers-2027.pub --key makers-2026.key --out makers-2027.rotation
    """
    from ...bundles.atomic import refuse_existing, replace_bytes
    from ...errors import TrustError
    from ...trust.documents import sign_rotation
    from ...trust.keys import PublicKey
    from ...trust.trust import ROTATED

    if to.suffix != ROTATED:
        raise TrustError(f"{to} needs the ending {ROTATED}, by which devices know it")
    refuse_existing(to, force=force)
    made = PublicKey.read(new)
    replace_bytes(to, sign_rotation(made, _private(key)))
    if as_json:
        print_json({"out": str(to), **_facts(made)})
    else:
        out.print(f"wrote {to}: give it to the devices with the next kit", soft_wrap=True)


@app.command()
def revoke(
    bad: Annotated[Path, typer.Argument(help="The public key that shall be trusted no longer.", show_default=False)],
    key: SigningKey,
    to: Annotated[Path, typer.Option("--list", help="The revocation list: made, or continued.")],
    reason: Annotated[str, typer.Option(help="For those whose device refuses it.")] = "",
    keep: Annotated[
        list[Path] | None,
        typer.Option(
            help="A public key that the revoked one has signed and that stays trusted; repeat it.", show_default="none"
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Revoke a key: it goes onto a signed list, which devices take with the next kit; what it has signed is refused from then on.

    Keys that it has signed go with it, but for those that --keep names. No later list can take a revocation back.

    Example: medge keys revoke makers-2026.pub --key makers-2027.key --keep makers-2027.pub --list revoked.json
    """
    from ...bundles.atomic import replace_bytes
    from ...trust.documents import Revoked, read_revocations, sign_revocations
    from ...trust.keys import PublicKey

    old = read_revocations(to)[0] if to.exists() else None
    entry = Revoked(
        PublicKey.read(bad).fingerprint, reason, tuple(sorted(PublicKey.read(path).fingerprint for path in keep or ()))
    )
    replace_bytes(to, sign_revocations(old, entry, _private(key)))
    made, _ = read_revocations(to)
    if as_json:
        print_json({"out": str(to), "counter": made.counter, "revoked": [one.key for one in made.revoked]})
    else:
        out.print(f"wrote {to}: list {made.counter}, {len(made.revoked)} revoked keys", soft_wrap=True)


def _show_trust(folder: Path, as_json: bool) -> None:
    from rich.table import Table

    from ...trust.trust import Trust, short

    found = Trust.open(folder)
    if as_json:
        keys: list[dict[str, Any]] = [
            {**_facts(key), "signed_by": list(found.vouchers[fingerprint])} for fingerprint, key in found.keys.items()
        ]
        counter = found.revocations.counter if found.revocations else 0
        revoked = [{"key": key, "reason": reason} for key, reason in found.revoked.items()]
        print_json({"policy": found.policy, "keys": keys, "revocation_list": counter, "revoked": revoked})
        return
    table = Table(title=f"{folder}: policy {found.policy}")
    for column in ("key", "made", "fingerprint", "trusted because"):
        table.add_column(column)
    for fingerprint, key in found.keys.items():
        by = ", ".join(map(short, found.vouchers[fingerprint]))
        table.add_row(key.name, key.created, short(fingerprint), f"signed by {by}" if by else "a person added it")
    for fingerprint, reason in found.revoked.items():
        table.add_row("", "", short(fingerprint), f"REVOKED {reason}")
    out.print(table)


def _facts(key: PublicKey) -> dict[str, Any]:
    return {"name": key.name, "created": key.created, "fingerprint": key.fingerprint}


def _private(path: Path) -> PrivateKey:
    from ...trust.keys import PrivateKey

    return PrivateKey.read(path, lambda: asked_passphrase(path))


def asked_passphrase(path: Path, *, twice: bool = False) -> str:
    """The passphrase of a private key.

    Raises:
        TrustError: there is none, or the two differ.
    """
    from ...console.asked import asked_secret
    from ...errors import TrustError

    return asked_secret(f"Passphrase of {path}", "passphrase", twice=twice, error=TrustError)
