"""A language model's bundle, opened for use."""

from __future__ import annotations

from pathlib import Path

from ..bundles.bundle import Bundle
from ..trust.trust import Trust
from ..trust.verifying import signed_manifest
from .cache import CacheName
from .generator import Generator
from .isolated.generator import IsolatedGenerator


def load(
    folder: str | Path, *, verify: bool = True, allow_failed_parity: bool = False, context: int | None = None,
    threads: int | None = None, gpu_layers: int | None = None, cache: CacheName = "f16", isolate: bool = False,
    from_storage: bool = False, trust: Trust | str | Path | None = None,
) -> Generator:  # fmt: skip
    """Open a language model's bundle for use.

    Args:
        folder: the bundle.
        verify: check the SHA-256 of every file first.
        allow_failed_parity: load a bundle whose parity gate failed or was never measured.
        context: tokens to make room for; as many as fit, up to 8192, where None.
        threads: threads; all usable cores where None.
        gpu_layers: layers on a GPU; as many as fit, where llama.cpp was built for one, where None.
        cache: what keys and values are kept in: "f16", "q8_0", or "q4_0" (the keys in q8_0). Fewer bits take less memory, so that
            a longer context fits, and cost some quality (docs/results/cache.md).
        isolate: run the model in a process of its own, so that whatever ends that costs one answer and one `GeneratorError`.
        from_storage: where memory does not hold the weights, leave them in their file, which is read again for every token: slow
            (docs/results/from-storage.md).
        trust: the device's trust, or its folder: who must have signed the bundle. That of the environment variable MEDGE_TRUST
            where None; without one, no signature is looked at.

    Raises:
        RecipeError: there is no such cache, or not for this model; fewer than one thread.
        BundleError: missing, half-written, changed, too new, an encoder's, or (`ParityGateError`) too far from the original.
        TrustError: not signed by a key that the device trusts.

    Examples:
        >>> medge.load_generator("reader", context=512).context
        512
        >>> with medge.load_generator("reader", context=512, isolate=True) as reader:
        ...     reader.ask(None, "Name a bone.", medge.Sampling(limit=4)).tokens
        4
    """
    bundle = Bundle.open(
        folder, verify=verify, allow_failed_parity=allow_failed_parity, manifest_sha256=signed_manifest(folder, trust)
    )
    kind = IsolatedGenerator if isolate else Generator
    return kind(bundle, context=context, threads=threads, gpu_layers=gpu_layers, cache=cache, from_storage=from_storage)
