"""The kinds of bundles, a line each: how one is opened, replayed, described, timed, and written down for other languages.

Everything else asks this table, so that a new kind is a line here and its functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .bundles.bundle import Bundle
from .bundles.manifest import KindName, Manifest
from .trust.verifying import signed_manifest

if TYPE_CHECKING:
    from .bench.asked import Asked, Benched
    from .encoder.encoder import Encoder
    from .generator.generator import Generator
    from .generator.planner import Device, Opening, Plan
    from .golden.files import Inputs
    from .progress import Progress
    from .trust.trust import Trust

Check = tuple[str, float, float, bool]  # what, measured, bound, whether it holds


@dataclass(frozen=True)
class Kind:
    """What can be done with a bundle of one kind.

    Attributes:
        open: for use, with so many threads; as many as the engine or the planner chooses where None.
        replay: the golden results on this device; the second argument is "auto", "cpu" or "cuda".
        plan: what it takes on a device; the third argument is how a language model shall be opened.
        describe: (row, text) for `medge inspect`.
        bench: time one; what is measured and the table that shows it.
        write_golden_files: what a runtime in another language must reproduce, into a folder; returns the index.
    """

    open: Callable[[Bundle, int | None], Any]
    replay: Callable[[Bundle, str], Iterator[Check]]
    plan: Callable[[Bundle, Device, Opening], Plan]
    describe: Callable[[Manifest], list[tuple[str, str]]]
    bench: Callable[[Path, Asked, Progress], Benched]
    write_golden_files: Callable[[Bundle, Path, Inputs], dict[str, Any]]


def load(
    folder: str | Path, *, verify: bool = True, allow_failed_parity: bool = False, threads: int | None = None,
    trust: Trust | str | Path | None = None,
) -> Any:  # fmt: skip
    """Open a bundle: an `Encoder` where it holds MedSigLIP, a `Generator` where it holds MedGemma.

    The result is typed `Any`, since it depends on the files. `medge.load_encoder` and `medge.load_generator` are typed, and take
    what only one of the two knows.

    Args:
        folder: the bundle.
        verify: check the SHA-256 of every file first.
        allow_failed_parity: load a bundle whose parity gate failed or was never measured.
        threads: of the engine; its own choice where None.
        trust: the device's trust, or its folder: who must have signed the bundle. That of the environment variable MEDGE_TRUST
            where None; without one, no signature is looked at.

    Raises:
        BundleError: missing, half-written, changed, of another format, or (`ParityGateError`) too far from the original.
        TrustError: not signed by a key that the device trusts.

    Examples:
        >>> encoder, reader = medge.load("bundle"), medge.load("reader")
        >>> type(encoder).__name__, type(reader).__name__
        ('Encoder', 'Generator')
    """
    bundle = Bundle.open(
        folder, verify=verify, allow_failed_parity=allow_failed_parity, manifest_sha256=signed_manifest(folder, trust)
    )
    return KINDS[bundle.manifest.kind].open(bundle, threads)


def _open_encoder(bundle: Bundle, threads: int | None = None, *, device: str = "auto") -> Encoder:
    from .encoder.load import open_encoder

    return open_encoder(bundle, threads=threads, device=device)


def _replay_encoder(bundle: Bundle, device: str) -> Iterator[Check]:
    from .golden.encoder import replay

    if not bundle.manifest.towers:  # CoreML packages: hashes are all that can be checked away from a Mac
        return iter(())
    return replay(_open_encoder(bundle, device=device))


def _plan_encoder(bundle: Bundle, device: Device, _opening: Opening) -> Plan:
    """Both towers' weights, since labels of one's own open the text tower, too, and of the vision tower one layer's attention
    scores in two copies and a block's hidden values: the Android planner's formula, which benchmarks/android.py compares with
    the measured peak at full size."""
    from .encoder.encoder import Encoder
    from .errors import BundleError
    from .generator.planner import Need, Plan

    manifest = bundle.manifest
    if not manifest.towers:
        raise BundleError(f"{bundle.folder} {Encoder.absent}")
    facts = manifest.encoder
    weights = sum(bundle.tower_bytes(tower) for tower in manifest.towers.values())
    patches = (facts.image_size // facts.patch_size) ** 2
    heads = max(1, facts.embedding_size // 64)
    working = patches**2 * heads * 4 * 2 + patches * facts.embedding_size * 4 * 8
    return Plan(manifest.name, device, Need(weights, 0, working), 0, device.cores, 0)


def _describe_encoder(manifest: Manifest) -> list[tuple[str, str]]:
    facts = manifest.encoder
    return [
        ("input", f"{facts.image_size} x {facts.image_size} pixels, profile {manifest.profile}"),
        (
            "embedding",
            f"{facts.embedding_size} numbers; logit = {facts.logit_scale:.4g} x cosine {facts.logit_bias:+.4g}"
            + ("" if facts.sigmoid else "; read by softmax, it has no sigmoid"),
        ),
        ("labels", ", ".join(manifest.labels) or "none baked in"),
    ]


def _bench_encoder(folder: Path, asked: Asked, progress: Progress) -> Benched:
    from .bench.encoder import bench

    return bench(folder, asked, progress)


def _write_encoder_files(bundle: Bundle, folder: Path, inputs: Inputs) -> dict[str, Any]:
    from .golden.files import write_encoder_files

    # The order of sums depends on the number of threads.
    return write_encoder_files(_open_encoder(bundle, 1, device="cpu"), folder, inputs)


def _open_generator(bundle: Bundle, threads: int | None = None, *, context: int | None = None) -> Generator:
    from .generator.generator import Generator

    return Generator(bundle, threads=threads, context=context)


def _replay_generator(bundle: Bundle, _device: str) -> Iterator[Check]:
    from .golden.generator import replay_answers

    return replay_answers(_open_generator(bundle, context=1024))


def _plan_generator(bundle: Bundle, device: Device, opening: Opening) -> Plan:
    from .generator.planner import plan

    return plan(bundle, device=device, **asdict(opening))


def _describe_generator(manifest: Manifest) -> list[tuple[str, str]]:
    facts = manifest.generator
    sees = (
        f"{facts.image_size} x {facts.image_size} pixels become {facts.image_tokens} tokens, profile {manifest.profile}"
    )
    return [
        ("image", sees if facts.image_tokens else "none, it reads text only"),
        ("context", f"trained for {facts.context_length:,} tokens; {facts.layers} layers, window {facts.window}"),
    ]


def _bench_generator(folder: Path, asked: Asked, progress: Progress) -> Benched:
    from .bench.generator import bench

    return bench(folder, asked, progress)


def _write_generator_files(bundle: Bundle, folder: Path, inputs: Inputs) -> dict[str, Any]:
    from .golden.files import write_generator_files

    return write_generator_files(_open_generator(bundle), folder, inputs)


KINDS: dict[KindName, Kind] = {
    "encoder": Kind(
        _open_encoder, _replay_encoder, _plan_encoder, _describe_encoder, _bench_encoder, _write_encoder_files
    ),
    "generator": Kind(
        _open_generator,
        _replay_generator,
        _plan_generator,
        _describe_generator,
        _bench_generator,
        _write_generator_files,
    ),
}
