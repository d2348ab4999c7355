"""What this device can run: memory, cores and CPU features against what a language model needs, before it is opened.

A model that does not fit is refused here, with the numbers; the kernel would end the process without a word. The
estimate for a 4B stands beside its measured peak in benchmarks/generator_full_size.py. Where the caller agrees, the weights stay
in their file instead: the model runs from storage, as slowly as benchmarks/from_storage.py has measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

from ..bundles.bundle import Bundle
from ..bundles.facts import GeneratorFacts
from ..device.cpu import cpu_features, usable_cores
from ..device.llama_library import gpu_memory
from ..device.memory_limit import memory_limits
from ..device.storage import LEAST_SHARE, SLOWER, read_again
from ..errors import ContextError
from .cache import CacheName, cache_types
from .engine import BATCH

DEFAULT_CONTEXT, LEAST_CONTEXT, STEP = 8192, 512, 256
RESERVE = 0.9  # share of the free memory that is used; the rest is for images, Python and the other processes
FIXED = 160 << 20  # Python, libraries, tokenizer
VISION_WIDTH = 1152  # SigLIP so400m's, the widest tower that Gemma 3 has
# Rows of that width that a tower holds for each patch: llama.cpp's, and ONNX Runtime's at its greediest, which is int8 with
# nothing merged (0.84 GB at 4096 patches, of which some stays when the image is done).
VISION_ROWS, ONNX_ROWS = 12, 45
# CPU features that change which of llama.cpp's kernels run, as /proc/cpuinfo and macOS name them.
FEATURES = ("avx2", "f16c", "fma", "avx512f", "avx512_vnni", "avx_vnni", "asimddp", "i8mm", "sve", "feat_dotprod")


@dataclass(frozen=True)
class Device:
    """A machine, as far as it matters. Memory in bytes; `gpu` is the free memory of the GPU, 0 where none is used."""

    memory_total: int
    memory_free: int
    cores: int
    features: tuple[str, ...]
    gpu: int

    @classmethod
    def here(cls) -> Device:
        """This machine; in a container or a service with a limit, what that leaves."""
        import psutil

        memory = psutil.virtual_memory()
        total, free = memory.total, memory.available
        for limit in memory_limits():
            total, free = min(total, limit.most), min(free, limit.most - limit.used)
        known = cpu_features()
        return cls(total, max(free, 0), usable_cores(), tuple(n for n in FEATURES if n in known), gpu_memory())


@dataclass(frozen=True)
class Need:
    """Memory of a language model, in bytes.

    Attributes:
        mapped: of `weights`, what can stay in its file: pages that the system may drop and read again.
    """

    weights: int
    cache: int
    working: int
    fixed: int = FIXED
    mapped: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.working + self.fixed


def need(
    facts: GeneratorFacts, weights: int, context: int, *, onnx: bool = False, cache: CacheName = "f16", mapped: int = 0,
) -> Need:  # fmt: skip
    """What a model takes with room for `context` tokens.

    In the key-value cache every global layer keeps all positions, the others their window and one batch.
    The working memory is the greater of the language model's (a batch through the widest layer) and the tower's
    (every patch through its MLP and one head's attention scores at a time); both together where the tower is in ONNX.
    The tower's weights are read into memory; the language model's, `mapped`, need not be.
    """
    whole = facts.layers // facts.global_every if facts.global_every else facts.layers
    window = min(context, _round_up(facts.window + BATCH, STEP)) if facts.window else context
    positions = whole * context + (facts.layers - whole) * window
    kept = cache_types(cache, facts.head_size).bytes(positions * facts.kv_heads * facts.head_size)
    patches = (facts.image_size // facts.patch_size) ** 2 if facts.image_tokens else 0
    language = BATCH * facts.width * 4 * 12 + facts.vocabulary * 4 * 2
    if onnx:
        return Need(weights, kept, language + patches * VISION_WIDTH * 4 * ONNX_ROWS, mapped=mapped)
    vision = patches * VISION_WIDTH * 4 * VISION_ROWS + patches * patches * 4
    return Need(weights, kept, max(language, vision), mapped=mapped)


@dataclass(frozen=True)
class Opening:
    """How a caller wants a model to be opened.

    Attributes:
        context, threads, gpu_layers: the planner's choice where None.
        cache: what keys and values are kept in.
        from_storage: the weights may stay in their file where memory does not hold them.
    """

    context: int | None = None
    threads: int | None = None
    gpu_layers: int | None = None
    cache: CacheName = "f16"
    from_storage: bool = False


Fit = Literal["in memory", "from storage", "not at all"]


@dataclass(frozen=True)
class Plan:
    """How a bundle would be run on a device.

    Attributes:
        from_storage: whether it may be run so, where memory does not hold it.
    """

    name: str
    device: Device
    need: Need
    context: int
    threads: int
    gpu_layers: int
    cache: CacheName = "f16"
    from_storage: bool = False

    @property
    def room(self) -> int:
        return int(self.device.memory_free * RESERVE)

    @property
    def fits(self) -> bool:
        return self.need.total - self._offloaded <= self.room

    @property
    def fit(self) -> Fit:
        """How it can run. From storage where what can't be dropped leaves the weights a share of room that was measured."""
        if self.fits:
            return "in memory"
        stored = self.need.mapped > 0 and not self.gpu_layers and self._share >= LEAST_SHARE
        return "from storage" if stored else "not at all"

    @property
    def runs(self) -> bool:
        """Whether it can run in one of the ways that the caller agrees to."""
        return self.fits or (self.from_storage and self.fit == "from storage")

    @property
    def read_again(self) -> int:
        """Bytes that are read from storage again for each token."""
        return int(self.need.mapped * read_again(self._share)) if self.fit == "from storage" else 0

    def seconds_a_token(self, speed: float) -> float:
        """By how much reading again makes each token longer, with storage that gives so many bytes a second (`storage_speed`)."""
        return self.read_again * SLOWER / speed

    @property
    def _share(self) -> float:
        """Room for the weights that can stay in their file, as a share of them."""
        return (self.room - (self.need.total - self.need.mapped)) / self.need.mapped

    @property
    def _offloaded(self) -> int:
        return min(self.need.weights + self.need.cache, self.device.gpu) if self.gpu_layers else 0

    def checked(self) -> Plan:
        """This plan, if it runs.

        Raises:
            ContextError: with what is needed and what there is.
        """
        if self.runs:
            return self
        n = self.need
        stored = (
            f"; or agree to run it from storage (from_storage=True, --from-storage), which reads {self.read_again / 1e9:.1f} GB "
            "again for each token"
        )  # fmt: skip
        raise ContextError(
            f"{self.name} does not fit into memory: with {self.context} tokens of context it needs {n.total / 1e9:.1f} GB "
            f"(weights {n.weights / 1e9:.1f}, cache {n.cache / 1e9:.1f}, working {n.working / 1e9:.1f}), and "
            f"{self.room / 1e9:.1f} GB can be used of {self.device.memory_total / 1e9:.1f}; take a smaller recipe, a "
            f"shorter context{', a cache in q8_0' if self.cache == 'f16' else ''}, or close other programs"
            f"{stored if self.fit == 'from storage' else ''}"
        )


def plan(
    bundle: Bundle, *, device: Device | None = None, context: int | None = None, threads: int | None = None,
    gpu_layers: int | None = None, cache: CacheName = "f16", from_storage: bool = False, longest: int = DEFAULT_CONTEXT,
) -> Plan:  # fmt: skip
    """Choose context, threads and layers on the GPU for a bundle; what the caller gives is kept.

    The context is the longest that fits, at most what the model was trained for and `longest`; where none does, and the caller
    agrees, the longest that runs from storage.

    Raises:
        RecipeError: there is no such cache, or not for this model.
    """
    device = device or Device.here()
    facts, projector = bundle.manifest.generator, bundle.manifest.file("projector")
    weights = sum(e.bytes for e in bundle.manifest.files if e.role in {"language", "projector", "projector.data"})
    language = sum(e.bytes for e in bundle.manifest.files if e.role == "language")
    onnx = projector is not None and bundle.manifest.towers["projector"].format == "onnx"
    needed = partial(need, facts, weights, onnx=onnx, cache=cache, mapped=language)
    if gpu_layers is None:
        # A layer's share of the weights and of the cache; all of them and the output where everything fits.
        whole = needed(context or DEFAULT_CONTEXT)
        share = (whole.weights + whole.cache) / (facts.layers + 1)
        gpu_layers = min(facts.layers + 1, int(device.gpu * RESERVE / share))
    contexts = [context] if context else _contexts(min(longest, facts.context_length))
    plans = [
        Plan(bundle.manifest.name, device, needed(one), one, threads or device.cores, gpu_layers, cache, from_storage)
        for one in contexts
    ]
    fitting = next((chosen for chosen in plans if chosen.fits), None)
    return fitting or next((chosen for chosen in plans if chosen.runs), plans[-1])


def _contexts(longest: int) -> list[int]:
    """Lengths to try, the longest first."""
    found = [longest]
    while found[-1] > LEAST_CONTEXT:
        found.append(max(LEAST_CONTEXT, _round_up(found[-1] // 2, STEP)))
    return found


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step
