"""Which token comes next: the greatest logit, or one drawn by llama.cpp's samplers; with a grammar, one that it allows."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..device.llama_library import native_messages
from ..errors import GeneratorError
from .conversation import Sampling

Logits = Callable[[], NDArray[np.float32]]
LIKELIEST = 1024  # tokens that a grammar is asked about first, when it has refused the likeliest

_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])  # llama_token_data


@contextlib.contextmanager
def choosing(
    lib: Any, context: Any, vocabulary: Any, logits: Logits, sampling: Sampling, grammar: str | None
) -> Iterator[Callable[[], int]]:  # fmt: skip
    """What chooses the next token.

    Args:
        lib, context, vocabulary: llama.cpp, and its pointers.
        logits: the last ones, checked; they stay llama.cpp's.
        sampling: how a token is chosen.
        grammar: GBNF, or None.

    Raises:
        GeneratorError: llama.cpp does not understand the grammar.
    """
    with contextlib.ExitStack() as free:
        chain: Any = None  # at temperature 0, the greatest logit needs no list of a quarter of a million candidates
        if sampling.temperature > 0:
            chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
            free.callback(lib.llama_sampler_free, chain)
            for step in (
                lib.llama_sampler_init_top_k(sampling.top_k), lib.llama_sampler_init_top_p(sampling.top_p, 1),
                lib.llama_sampler_init_temp(sampling.temperature), lib.llama_sampler_init_dist(sampling.seed),
            ):  # fmt: skip
                lib.llama_sampler_chain_add(chain, step)
        if grammar is None:
            yield _Choice(lib, context, logits, chain).free
            return
        made = lib.llama_sampler_init_grammar(vocabulary, grammar.encode(), b"root")
        if not made:
            raise GeneratorError(f"llama.cpp does not understand the grammar ({native_messages()})")
        free.callback(lib.llama_sampler_free, made)
        yield _Choice(lib, context, logits, chain, made, 1 if chain is None else sampling.top_k).by_grammar


@dataclass(frozen=True)
class _Choice:
    lib: Any
    context: Any
    logits: Logits
    chain: Any
    grammar: Any = None
    needed: int = 1  # so many of the allowed tokens, the likeliest, are those that can be chosen

    def free(self) -> int:
        logits = self.logits()
        return int(
            logits.argmax() if self.chain is None else self.lib.llama_sampler_sample(self.chain, self.context, -1)
        )

    def by_grammar(self) -> int:
        """The usual choice if the grammar allows it, else the choice among those that it allows.

        Asking the grammar about one token takes microseconds; about a quarter of a million, longer than the model.
        """
        lib, token = self.lib, self.free()
        one = np.array([(token, 0.0, 0.0)], _CANDIDATE)
        lib.llama_sampler_apply(self.grammar, ctypes.byref(self._candidates(one)))
        if np.isneginf(one["logit"][0]):
            token = self._allowed()
        lib.llama_sampler_accept(self.grammar, token)
        return token

    def _allowed(self) -> int:
        """The choice among the tokens that the grammar allows: among the likeliest, if enough of these are, else among all."""
        lib, logits = self.lib, self.logits()
        for count in (LIKELIEST, len(logits)):
            # By their numbers: of equal ones the first is chosen, as among all.
            which = np.sort(np.argpartition(logits, -count)[-count:]) if count < len(logits) else np.arange(len(logits))
            rows = np.zeros(len(which), _CANDIDATE)
            rows["id"], rows["logit"] = which, logits[which]
            candidates = self._candidates(rows)
            lib.llama_sampler_apply(self.grammar, ctypes.byref(candidates))
            if len(which) == len(logits) or np.isfinite(rows["logit"]).sum() >= self.needed:
                break
        if self.chain is None:
            return int(rows["id"][rows["logit"].argmax()])
        lib.llama_sampler_apply(self.chain, ctypes.byref(candidates))
        return int(candidates.data[candidates.selected].id)

    def _candidates(self, rows: NDArray[Any]) -> Any:
        data = rows.ctypes.data_as(ctypes.POINTER(self.lib.llama_token_data))
        return self.lib.llama_token_data_array(data, len(rows), -1, False)
