"""llama.cpp behind one class: tokens and images in, logits or sampled tokens out, with what is already evaluated kept.

llama-cpp-python's own `Llama` resizes images itself, encodes an image anew for each question and gives no logits at
image positions; its ctypes layer, used here, leaves all of that to us. One engine serves one conversation at a time.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..device import huge_pages
from ..device.cpu import usable_cores
from ..device.held_stops import stops_held
from ..device.llama_library import check_process, forget_messages, library, native_messages
from ..errors import BundleError, ContextError, GeneratorError
from .cache import CACHES, CacheTypes
from .choice import choosing
from .conversation import DEFAULT_SAMPLING, Sampling
from .image_tower import DEFAULT_CALL, ImageTower, TowerCall, open_tower
from .prompt import STEP, Item, Picture, cuts, length

BATCH = 512  # tokens evaluated at once; an image's 256 must fit into one batch, for they see each other
KEPT_IMAGES = 96  # projected embeddings kept, a whole CT series among them: 2.6 MB each for MedGemma 4B
RING = 256  # llama.cpp makes the room of windowed layers a multiple of this
_SEQUENCE = 0


Observer = Callable[[int, bool], bool]  # (address of a ggml tensor, whether it is only asked) -> wanted


class Engine:
    """A language model with, where there is one, its vision tower and projector.

    It belongs to the process that made it, and is of no use after `close`: everything but `close` then raises a `GeneratorError`.

    Args:
        model: the GGUF file.
        projector: what turns images into tokens: an mmproj GGUF, or an ONNX file of tower and projector.
        context: positions to make room for.
        threads: None for all cores that this process may use.
        gpu_layers: layers to offload, where llama.cpp was built for a GPU.
        cache: what keys and values are kept in.
        measuring: make room for the logits of every token of a batch, half a gigabyte with Gemma's vocabulary.
        observer: called for each operation of the graph (ggml's eval callback); calibration reads activations by it.
        call: how a projector in ONNX is called.
        from_storage: leave the weights in their file, mapped: the system drops their pages and reads them again where memory is
            short, and a token takes the longer for it (benchmarks/from_storage.py).

    Raises:
        MissingExtraError: llama-cpp-python is not installed.
        BundleError: llama.cpp refuses a file.
        ContextError: no memory for so long a context.
        GeneratorError: this process was forked from one that has loaded a language model.
    """

    def __init__(
        self, model: Path, projector: Path | None = None, *, context: int = 4096, threads: int | None = None,
        gpu_layers: int = 0, cache: CacheTypes = CACHES["f16"], measuring: bool = False, observer: Observer | None = None,
        call: TowerCall = DEFAULT_CALL, from_storage: bool = False,
    ) -> None:  # fmt: skip
        check_process(loading=True)
        self._free = contextlib.ExitStack()
        self._lock = threading.RLock()
        self._closed = False
        self.lib = lib = library()
        threads = threads or usable_cores()
        options = lib.llama_model_default_params()
        options.n_gpu_layers = gpu_layers
        if from_storage:
            options.load_mode = lib.LLAMA_LOAD_MODE_MMAP
            options.use_extra_bufts = False  # no repacked copy, which the system could not drop
        elif not (gpu_layers or measuring or observer):
            # llama.cpp repacks many types for the CPU that it finds: mapped, the file and the copy both count, and a 4B
            # takes twice its size. Measuring and calibrating run a full-precision file once, which nothing repacks.
            options.load_mode = lib.LLAMA_LOAD_MODE_NONE
            loading = huge_pages.asked_once()
            progress = lib.llama_progress_callback(lambda *_: next(loading))
            options.progress_callback = progress
        with stops_held():
            self._model = lib.llama_model_load_from_file(os.fsencode(model), options)
        if not self._model:
            raise BundleError(f"{model}: llama.cpp can't load it ({native_messages()})")
        self._free.callback(lib.llama_model_free, self._model)
        self._vocabulary = lib.llama_model_get_vocab(self._model)
        self.vocabulary_size = int(lib.llama_vocab_n_tokens(self._vocabulary))
        self.window = int(lib.llama_model_n_swa(self._model))
        self._ring = min(context, -(-(self.window + BATCH) // RING) * RING)  # positions that windowed layers keep
        params = lib.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max = context, BATCH, BATCH, 1
        params.n_outputs_max = BATCH if measuring else 1
        params.n_threads = params.n_threads_batch = threads
        params.swa_full = False  # windowed layers keep their window only; `_reusable` minds it
        # Values in fewer bits ask for flash attention, which llama.cpp switches on by itself.
        params.type_k, params.type_v = cache.keys.number, cache.values.number
        params.no_perf = True
        self._observer: Any = None
        self._observer_failed: Exception | None = None
        if observer is not None:
            self._observer = lib.ggml_backend_sched_eval_callback(self._watched(observer))
            params.cb_eval = self._observer
        with stops_held():
            self._context = lib.llama_init_from_model(self._model, params)
        if not self._context:
            self.close()
            raise ContextError(
                f"no memory for a context of {context} tokens ({native_messages()}); ask for a shorter one"
            )
        self._free.callback(lib.llama_free, self._context)
        self.context = int(lib.llama_n_ctx(self._context))
        self._memory = lib.llama_get_memory(self._context)
        self._batch = lib.llama_batch_init(BATCH, 0, 1)
        self._free.callback(lib.llama_batch_free, self._batch)
        self.width = int(lib.llama_model_n_embd_inp(self._model))
        self._tower: ImageTower | None = None
        if projector is not None:
            try:
                with stops_held():
                    self._tower = open_tower(
                        projector, self._model, self.width, call, threads=threads, gpu=gpu_layers > 0,
                        callback=self._observer,
                    )  # fmt: skip
            except BaseException:
                self.close()
                raise
            self._free.callback(self._tower.close)
        forget_messages()  # warnings of a model that did load explain no later failure
        self._items: list[Item] = []
        self._cuts: list[int] = []  # items up to which `_items` was evaluated in a prompt's steps
        self._embeddings: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self.reused = 0  # positions of the last prompt that were evaluated before
        self.encoded_images = 0  # how many images went through the tower; a repeated one does not

    @property
    def sees(self) -> bool:
        """Whether images can be given."""
        return self._tower is not None

    def close(self) -> None:
        """Free the native memory, once the step is done that another thread is in; the engine can't be used afterwards.

        In a process that was forked it does nothing: memory and threads are the other process's.
        """
        try:
            check_process()
        except GeneratorError:
            return
        with self._lock:
            self._closed = True
            self._free.close()

    @contextlib.contextmanager
    def _using(self) -> Iterator[None]:
        """Keep the native memory from being freed meanwhile.

        Raises:
            GeneratorError: it is freed already, or belongs to another process.
        """
        check_process()  # before the lock, which nobody opens in a forked process
        with self._lock:
            if self._closed:
                raise GeneratorError("this language model was closed while it was still in use; load it again")
            yield

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Text

    def tokenize(self, text: str, *, special: bool = True) -> list[int]:
        """Token ids of a text, without a beginning-of-sequence token.

        Args:
            special: recognise special tokens such as <start_of_turn>; text from outside must not get that.

        Raises:
            GeneratorError: the text is no Unicode.
        """
        try:
            data = text.encode()
        except UnicodeEncodeError as error:
            raise GeneratorError("a text holds half a character (a surrogate), which no model reads") from error
        room = len(data) + 8
        while True:
            ids = (self.lib.llama_token * room)()
            with self._using():
                count = self.lib.llama_tokenize(self._vocabulary, data, len(data), ids, room, False, special)
            if count >= 0:
                return list(ids[:count])
            room = -count

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """The bytes of one token; a multi-byte character can be spread over several."""
        room = 512
        while True:
            buffer = ctypes.create_string_buffer(room)
            with self._using():
                count = self.lib.llama_token_to_piece(self._vocabulary, token, buffer, room, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            room = -count

    def text(self, tokens: Sequence[int]) -> str:
        return b"".join(self.piece(token) for token in tokens).decode("utf-8", "replace")

    def ends(self, token: int) -> bool:
        """Whether this token ends an answer."""
        with self._using():
            return bool(self.lib.llama_vocab_is_eog(self._vocabulary, token))

    def controls(self, token: int) -> bool:
        """Whether this token is a mark of the model's own, such as <start_of_turn>, and no text."""
        with self._using():
            return bool(self.lib.llama_vocab_is_control(self._vocabulary, token))

    # Evaluation

    def prefill(self, items: Sequence[Item]) -> None:
        """Evaluate a prompt; what it shares with the last one is not evaluated again (`reused` positions).

        The logits are those of a fresh start, to the bit: see `steps`.

        Raises:
            ContextError: the prompt is longer than the context; says by how much.
            GeneratorError: it is empty; an image, and no vision tower.
        """
        items = list(items)
        self._check(items, room=1)
        with self._using():
            shared = self._reusable(items)
            self.reused = length(items[:shared])
            self._rewind(shared)
            self._advance(items[shared:], outputs=None)

    def logits(self, items: Sequence[Item], first: int = 0, stride: int = 1) -> NDArray[np.float32]:
        """Next-token logits after text items, (count, vocabulary); images give no rows.

        Needs an engine made with `measuring`. Starts from an empty context: measured numbers must not depend on what
        was evaluated before.

        Args:
            items: the prompt.
            first: index of the first item whose logits are wanted.
            stride: only those at multiples of it, and the last.
        """
        items = list(items)
        self._check(items, room=0)
        rows: list[NDArray[np.float32]] = []
        with self._using():
            self._rewind(0)
            self._advance(items, outputs=rows, first=first, stride=stride)
        return np.concatenate(rows) if rows else np.empty((0, self.vocabulary_size), np.float32)

    def observe_prompt(self, items: Sequence[Item], stride: int) -> None:
        """Evaluate a prompt from scratch for an observer, with the output head at every `stride`-th token only.

        What the observer raises is raised, and Ctrl-C waits until the prompt is through: see `stops_held`.
        """
        self._check(list(items), room=0)
        with self._using(), stops_held():
            self._rewind(0)
            self._advance(list(items), outputs=[], stride=stride)
        if self._observer_failed is not None:
            failed, self._observer_failed = self._observer_failed, None
            raise failed

    def _watched(self, observer: Observer) -> Callable[[int, bool, object], bool]:
        """An observer that keeps its exception for `observe_prompt`: raised inside a callback of C, it would be lost."""

        def watch(tensor: int, ask: bool, _: object) -> bool:
            try:
                return observer(tensor, ask)
            except Exception as error:
                self._observer_failed = self._observer_failed or error
                return False

        return watch

    def next_logits(self) -> NDArray[np.float32]:
        """Logits of the token after what is evaluated, (vocabulary,).

        Raises:
            GeneratorError: nothing is evaluated; they are not finite.
        """
        with self._using():
            return self._last_logits().copy()

    def _last_logits(self) -> NDArray[np.float32]:
        """The same where llama.cpp keeps them, until its next step."""
        pointer = self.lib.llama_get_logits_ith(self._context, -1)
        if not pointer:
            raise GeneratorError("nothing was evaluated that another token could follow")
        return _finite(np.ctypeslib.as_array(pointer, (self.vocabulary_size,)))

    def generate(
        self, items: Sequence[Item], sampling: Sampling = DEFAULT_SAMPLING, *, grammar: str | None = None,
        past_end: bool = False,
    ) -> Iterator[int]:  # fmt: skip
        """Yield the answer's tokens, without the one that ends it.

        Args:
            items: the prompt.
            sampling: how many tokens at most, and how they are chosen; the context's end is another limit.
            grammar: GBNF; only tokens that it allows are chosen.
            past_end: go on after the end, for benchmarks that need a fixed number of tokens.

        Raises:
            ContextError, GeneratorError: as `prefill`; the engine was closed meanwhile; logits that are not finite.
        """
        self.prefill(items)
        lib = self.lib
        one = (lib.llama_token * 1)()
        with contextlib.ExitStack() as free:
            with self._using():
                choose = free.enter_context(
                    choosing(lib, self._context, self._vocabulary, self._last_logits, sampling, grammar)
                )
            room = self.context - length(self._items)
            for count in range(sampling.limit):
                with self._using():
                    token = choose()
                if not past_end and self.ends(token):
                    return
                yield token
                if count + 1 == sampling.limit or count + 1 >= room:
                    return
                one[0] = token
                with self._using(), self._consistent():
                    if lib.llama_decode(self._context, lib.llama_batch_get_one(one, 1)) != 0:
                        raise GeneratorError(f"llama.cpp could not go on generating ({native_messages()})")
                    self._items.append(token)

    def forget(self) -> None:
        """Drop everything evaluated and every image embedding."""
        with self._using():
            self._rewind(0)
            self._embeddings.clear()

    def image_embedding(self, picture: Picture) -> NDArray[np.float32]:
        """What the language model sees of an image, (tokens, width)."""
        with self._using():
            if picture.key not in self._embeddings:
                self._embeddings[picture.key] = self._encode(picture)
                while len(self._embeddings) > KEPT_IMAGES:
                    self._embeddings.popitem(last=False)
            self._embeddings.move_to_end(picture.key)
            return self._embeddings[picture.key]

    def _check(self, items: list[Item], room: int) -> None:
        if not items:
            raise GeneratorError("the prompt is empty")
        if (need := length(items) + room) > self.context:
            raise ContextError(
                f"the prompt takes {need - room} tokens, {need - self.context} more than the context of {self.context} "
                "has room for; shorten it, or load the bundle with a longer context"
            )
        if not self.sees and any(isinstance(item, Picture) for item in items):
            raise GeneratorError("this model reads text only, it has no vision tower for an image")

    def _reusable(self, items: list[Item]) -> int:
        """How many leading items are evaluated already, in the steps in which a fresh start would do it."""
        shared = 0
        for mine, wanted in zip(self._items, items, strict=False):
            if mine != wanted:
                break
            shared += 1
        # The last item has to be evaluated for its logits. An answer's tokens were evaluated one by one, and are cut nowhere.
        same = set(self._cuts) & set(cuts(items))
        shared = max((place for place in same if place <= min(shared, len(items) - 1)), default=0)
        at, end = length(items[:shared]), length(self._items)
        if at and at < end and self.window:
            # Windowed layers have forgotten what lies before their window. Going back is possible only as far as the
            # window before the new end is still there, and in the same lap of their ring: what is added then takes the
            # places that it would take after a fresh start, so that sums have the same order.
            oldest = int(self.lib.llama_memory_seq_pos_min(self._memory, _SEQUENCE))
            if oldest > max(0, at - self.window) or at // self._ring != (end - 1) // self._ring:
                return 0
        return shared

    def _rewind(self, shared: int) -> None:
        at = length(self._items[:shared])
        if not at or not self.lib.llama_memory_seq_rm(self._memory, _SEQUENCE, at, -1):
            self.lib.llama_memory_clear(self._memory, True)
            if at:  # llama.cpp refused to go back part of the way
                kept, self._items, self._cuts = self._items[:shared], [], []
                self._advance(kept, outputs=None)
                return
        del self._items[shared:]
        self._cuts = [place for place in self._cuts if place <= shared]

    @contextlib.contextmanager
    def _consistent(self) -> Iterator[None]:
        """Forget everything when interrupted half-way: llama.cpp's memory and our list of items must agree."""
        try:
            yield
        except BaseException:
            self.lib.llama_memory_clear(self._memory, True)
            self._items, self._cuts = [], []
            raise

    def _advance(
        self, items: list[Item], outputs: list[NDArray[np.float32]] | None, first: int = 0, stride: int = 1
    ) -> None:
        at, start = length(self._items), len(self._items)
        begin = 0
        with self._consistent():
            # Measuring begins with an empty context, so it can go in the largest steps. None of them is kept.
            for end in cuts(items, STEP if outputs is None else BATCH):
                part = items[begin:end]
                if isinstance(part[0], Picture):
                    self._decode_image(part[0], at)
                else:
                    places = range(start + begin, start + end)
                    wanted = [outputs is not None and place >= first and place % stride == 0 for place in places]
                    wanted[-1] |= end == len(items)
                    self._decode_tokens([token for token in part if isinstance(token, int)], at, wanted)
                    if outputs is not None and any(wanted):
                        pointer = self.lib.llama_get_logits(self._context)
                        shape = (sum(wanted), self.vocabulary_size)
                        outputs.append(_finite(np.ctypeslib.as_array(pointer, shape)).copy())
                self._items += part
                if outputs is None:
                    self._cuts.append(start + end)
                at, begin = at + length(part), end

    def _decode_tokens(self, tokens: list[int], at: int, wanted: list[bool]) -> None:
        batch = self._batch
        _place(batch, at, wanted)
        for index, token in enumerate(tokens):
            batch.token[index] = token
        if self.lib.llama_decode(self._context, batch) != 0:
            raise GeneratorError(f"llama.cpp could not evaluate the prompt ({native_messages()})")

    def _decode_image(self, picture: Picture, at: int) -> None:
        embedding, lib = self.image_embedding(picture), self.lib
        batch = lib.llama_batch_init(picture.tokens, self.width, 1)
        try:
            _place(batch, at, [False] * picture.tokens)
            ctypes.memmove(batch.embd, embedding.ctypes.data, embedding.nbytes)
            lib.llama_set_causal_attn(self._context, False)  # Gemma 3: an image's tokens all see each other
            if lib.llama_decode(self._context, batch) != 0:
                raise GeneratorError(f"llama.cpp could not evaluate an image ({native_messages()})")
        finally:
            lib.llama_set_causal_attn(self._context, True)
            lib.llama_batch_free(batch)

    def _encode(self, picture: Picture) -> NDArray[np.float32]:
        if self._tower is None:
            raise GeneratorError("this model reads text only, it has no vision tower for an image")
        embedding = self._tower.encode(picture.pixels)
        if embedding.shape != (picture.tokens, self.width):
            raise BundleError(
                f"the vision tower makes {embedding.shape[0]} tokens of {embedding.shape[1]} numbers of an image, "
                f"expected {picture.tokens} of {self.width}"
            )
        if not np.isfinite(embedding).all():
            raise BundleError(
                "the vision tower makes numbers of an image that are infinite or none at all; export the bundle again"
            )
        self.encoded_images += 1
        return embedding


def _finite(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """The logits themselves. Their sum says it in a twentieth of a millisecond: what is not finite makes it so, too."""
    with np.errstate(all="ignore"):
        total = logits.sum()
    if not np.isfinite(total):
        raise GeneratorError(
            "the language model's logits are infinite or no numbers: its file is damaged, or of a type that this device computes "
            "wrongly; copy or export the bundle again"
        )
    return logits


def _place(batch: Any, at: int, wanted: Sequence[bool]) -> None:
    """Give a llama_batch its positions from `at` on, with logits where they are wanted."""
    batch.n_tokens = len(wanted)
    for index, output in enumerate(wanted):
        batch.pos[index], batch.n_seq_id[index], batch.logits[index] = at + index, 1, output
        batch.seq_id[index][0] = _SEQUENCE
