"""An encoder's bundle, opened for use."""

from __future__ import annotations

from pathlib import Path

from ..bundles.bundle import Bundle
from ..trust.trust import Trust
from ..trust.verifying import signed_manifest
from .encoder import Encoder
from .litert import LiteRTEncoder


def open_encoder(
    bundle: Bundle, *, threads: int | None = None, device: str = "auto", fast: bool = False, sleeping: bool = False
) -> Encoder:
    """The encoder that an opened bundle holds: its ONNX files where there are any, else its LiteRT files.

    Raises:
        BundleError: it holds neither, or a language model.
        RecipeError: fewer than one thread, or a device that its files can't use.
    """
    kind = LiteRTEncoder if bundle.manifest.opened == LiteRTEncoder.format else Encoder
    return kind(bundle, threads=threads, device=device, fast=fast, sleeping=sleeping)


def load(
    folder: str | Path, *, verify: bool = True, allow_failed_parity: bool = False, threads: int | None = None,
    device: str = "auto", fast: bool = False, trust: Trust | str | Path | None = None,
) -> Encoder:  # fmt: skip
    """Open a bundle for use.

    Args:
        folder: the bundle.
        verify: check the SHA-256 of every file first.
        allow_failed_parity: load a bundle whose parity gate failed or was never measured.
        threads: threads of the engine; its own choice where None.
        device: "auto", "cpu" or "cuda".
        fast: some per cent faster, for more memory; of ONNX files only.
        trust: the device's trust, or its folder: who must have signed the bundle. That of the environment variable MEDGE_TRUST
            where None; without one, no signature is looked at.

    Raises:
        BundleError: missing, half-written, changed, too new, a language model's, or (`ParityGateError`) too far from the
            original.
        TrustError: not signed by a key that the device trusts.

    Examples:
        >>> medge.load_encoder("bundle", threads=1).classify("film.dcm", ["an abdomen CT", "a chest x-ray"])[0].best
        'an abdomen CT'
    """
    bundle = Bundle.open(
        folder, verify=verify, allow_failed_parity=allow_failed_parity, manifest_sha256=signed_manifest(folder, trust)
    )
    return open_encoder(bundle, threads=threads, device=device, fast=fast)
