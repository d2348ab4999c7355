"""A language model's life: closed while it is used, used after that, forked, fed with nothing, or with weights that are none."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("llama_cpp", reason="llama_cpp is not installed: pip install 'medge[llm]'")

import medge
from medge.runtime.device.gguf_header import read_header
from medge.runtime.errors import BundleError, GeneratorError
from medge.runtime.generator.conversation import Sampling, user
from medge.runtime.generator.engine import Engine
from medge.runtime.generator.generator import Generator
from medge.runtime.generator.grammar import grammar_of
from medge.runtime.golden.phantom import phantom

PROMPT = [2, *range(500, 540)]
LONG = Sampling(limit=400)
WAYS = {
    "greedy": (Sampling(limit=8), None),
    "drawn": (Sampling(limit=8, temperature=1.0, seed=1), None),
    "by grammar": (Sampling(limit=8), grammar_of({"type": "object", "properties": {"a": {"type": "string"}}})),
}


@pytest.fixture(scope="module")
def model(tiny_reader: Path) -> Path:
    return tiny_reader / "Tiny-Gemma-F16.gguf"


@pytest.fixture
def engine(model: Path) -> Iterator[Engine]:
    with Engine(model, context=512, threads=2) as opened:
        yield opened


@pytest.mark.parametrize("way", WAYS)
def test_closed_in_the_middle_of_a_stream(engine: Engine, way: str) -> None:
    sampling, grammar = WAYS[way]
    stream = engine.generate(PROMPT, sampling, grammar=grammar, past_end=True)
    next(stream)
    engine.close()
    with pytest.raises(GeneratorError, match="was closed"):
        next(stream)


@pytest.mark.parametrize(
    "use",
    [
        lambda engine: engine.tokenize("a"), lambda engine: engine.piece(5), lambda engine: engine.ends(5),
        lambda engine: engine.controls(5), lambda engine: engine.prefill(PROMPT), lambda engine: engine.next_logits(),
        lambda engine: engine.logits(PROMPT), lambda engine: engine.forget(), lambda engine: next(engine.generate(PROMPT)),
        lambda engine: engine.observe_prompt(PROMPT, 4),
    ],
)  # fmt: skip
def test_used_after_it_was_closed(engine: Engine, use: Callable[[Engine], object]) -> None:
    engine.close()
    with pytest.raises(GeneratorError, match="was closed"):
        use(engine)
    engine.close()


def test_another_thread_closes_it(engine: Engine) -> None:
    """It waits for the step that is being taken, and the next one is refused."""
    begun, said = threading.Event(), []

    def read() -> None:
        try:
            for _ in engine.generate(PROMPT, LONG, past_end=True):
                begun.set()
        except GeneratorError as error:
            said.append(str(error))

    reading = threading.Thread(target=read)
    reading.start()
    assert begun.wait(30)
    engine.close()
    reading.join(30)
    assert len(said) == 1
    assert "was closed" in said[0]


def test_a_generator_closed_in_the_middle_of_its_stream_can_be_used_again(tiny_reader: Path) -> None:
    generator = medge.load_generator(tiny_reader, allow_failed_parity=True, context=512)
    stream = generator.stream([user("What is this?")], LONG)
    next(stream)
    generator.close()
    with pytest.raises(GeneratorError, match="was closed"):
        list(stream)
    assert generator.ask(None, "And now?", Sampling(limit=2)).tokens <= 2
    generator.close()


FORKED = """
import os, sys
import medge
from medge.runtime.errors import GeneratorError
from medge.runtime.generator.conversation import Sampling, user

folder, one = sys.argv[1], Sampling(limit=1)
load = lambda: medge.load_generator(folder, allow_failed_parity=True, context=256, threads=2)

def child(use):
    if (pid := os.fork()) == 0:
        try:
            use()
            os.write(1, b"used\\n")
        except GeneratorError as error:
            os.write(1, f"{error}\\n".encode())
        os._exit(0)
    os.waitpid(pid, 0)

waiting = load()
child(lambda: waiting.ask(None, "Why?", one))
loaded = load()
loaded.ask(None, "Why?", one)
stream = loaded.stream([user("Why?")], Sampling(limit=9))
next(stream)
for use in (lambda: loaded.ask(None, "Why?", one), lambda: next(stream), loaded.close, loaded.engine.close,
            lambda: load().ask(None, "Why?", one)):
    child(use)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_forked_process(tiny_reader: Path) -> None:
    """Before a model is loaded a process may fork; afterwards the child is told, where it would wait for ever."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED, str(tiny_reader)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    said = done.stdout.splitlines()
    assert [line == "used" for line in said] == [True, False, False, False, True, False]
    assert all("was forked" in line for line in said if line != "used")


def test_nothing_to_answer(engine: Engine, tiny_reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GeneratorError, match="prompt is empty"):
        engine.prefill([])
    with pytest.raises(GeneratorError, match="nothing was evaluated"):
        engine.next_logits()
    generator = medge.load_generator(tiny_reader, allow_failed_parity=True)
    monkeypatch.setitem(generator.header.metadata, "tokenizer.chat_template", "{# nothing #}\n")  # type: ignore[arg-type]  # a dict behind a Mapping
    with pytest.raises(BundleError, match="writes nothing"):
        generator.ask(None, "Why?")


def test_half_a_character_is_no_text(engine: Engine) -> None:
    with pytest.raises(GeneratorError, match="half a character"):
        engine.tokenize("a\ud800b")


def spoil(path: Path, tensor: str, value: float) -> None:
    """One number of a tensor in float32."""
    place = read_header(path).tensors[tensor]
    assert place.type == "F32"
    with path.open("r+b") as stream:
        stream.seek(place.offset)
        stream.write(np.float32(value).tobytes())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("way", WAYS)
def test_logits_that_are_no_numbers(model: Path, tmp_path: Path, way: str, value: float) -> None:
    spoiled = Path(shutil.copy(model, tmp_path / "x.gguf"))
    spoil(spoiled, "output_norm.weight", value)
    sampling, grammar = WAYS[way]
    with Engine(spoiled, context=256, threads=2) as engine, pytest.raises(GeneratorError, match="logits"):
        next(engine.generate(PROMPT, sampling, grammar=grammar))


def test_an_image_that_becomes_no_numbers(tiny_reader: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_reader, broken)
    spoil(broken / "mmproj-Tiny-Gemma-F16.gguf", "v.post_ln.weight", float("nan"))
    generator = Generator(medge.load_generator(broken, verify=False, allow_failed_parity=True).bundle, context=256)
    with pytest.raises(BundleError, match="infinite or none"):
        generator.ask(phantom(64), "What is this?", Sampling(limit=2))
    generator.close()
