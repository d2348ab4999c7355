"""Open a bundle for use, whatever it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .bundles.bundle import Bundle
from .bundles.manifest import GeneratorFacts


def load(folder: str | Path, *, verify: bool = True, allow_failed_parity: bool = False, **options: Any) -> Any:
    """Open a bundle: an `Encoder` where it holds MedSigLIP, a `Generator` where it holds MedGemma.

    The result is typed `Any`, since it depends on the files; `medge.load_encoder` and `medge.load_generator` say which.

    Args:
        folder: the bundle.
        verify: check the SHA-256 of every file first.
        allow_failed_parity: load a bundle whose parity gate failed or was never measured.
        options: of `Encoder` (threads, device, fast) or of `Generator` (context, threads, gpu_layers).

    Raises:
        BundleError: missing, half-written, changed, too new, or (`ParityGateError`) too far from the original.
    """
    bundle = Bundle.open(folder, verify=verify, allow_failed_parity=allow_failed_parity)
    if isinstance(bundle.manifest.model, GeneratorFacts):
        from .generator.generator import Generator

        return Generator(bundle, **options)
    from .encoder.encoder import Encoder

    return Encoder(bundle, **options)
