"""The options of `medge serve` that say how the station is reached, and what it says of its certificate."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...console.terminal import out, warn

if TYPE_CHECKING:
    from ...station.doors.tls import Tls

StoreOption = Annotated[
    Path | None,
    typer.Option(
        help="The station's folder, for users and studies; made where it is missing.", show_default="nothing is kept"
    ),
]
HostOption = Annotated[
    str, typer.Option(help="The address to listen on. Beyond this machine (0.0.0.0: all) it needs users, and uses TLS.")
]
NameOption = Annotated[
    list[str] | None,
    typer.Option(help="A name by which the station may be called; repeat it.", show_default="its addresses only"),
]
CertificateOption = Annotated[
    Path | None, typer.Option(help="The clinic's own certificate, PEM.", show_default="beyond this machine one is made")
]
KeyOption = Annotated[Path | None, typer.Option(help="The key of the certificate, PEM.", show_default=False)]


def certificate_facts(tls: Tls) -> dict[str, Any]:
    """What `--json` says of a certificate."""
    facts = tls.facts()
    _warn(facts.warnings)
    return {
        "fingerprint": facts.fingerprint, "ends": facts.ends,
        "authority": None if facts.authority is None else str(facts.authority),
        "authority_fingerprint": facts.authority_fingerprint,
    }  # fmt: skip


def tell_certificate(tls: Tls | None) -> None:
    """Print the fingerprints, so that staff can compare them with what a browser shows."""
    if tls is None:
        return
    facts = tls.facts()
    _warn(facts.warnings)
    ends = datetime.datetime.fromtimestamp(facts.ends, datetime.UTC).date()
    out.print(f"certificate until {ends}, SHA-256 {facts.fingerprint}", soft_wrap=True)
    if facts.authority is not None:
        out.print(f"install {facts.authority} on other machines, SHA-256 {facts.authority_fingerprint}", soft_wrap=True)


def _warn(sentences: tuple[str, ...]) -> None:
    for sentence in sentences:
        warn(sentence)
