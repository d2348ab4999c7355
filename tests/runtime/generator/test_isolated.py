"""A language model in a process of its own: the same answers, and whatever ends that process costs one of them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

pytest.importorskip("llama_cpp", reason="llama_cpp is not installed: pip install 'medge[llm]'")

import medge
from medge.runtime import errors
from medge.runtime.errors import BundleError, ContextError, GeneratorError, MissingExtraError
from medge.runtime.generator.conversation import Sampling, system, user
from medge.runtime.generator.generator import Generator
from medge.runtime.generator.isolated import worker as module
from medge.runtime.generator.isolated.generator import IsolatedGenerator
from medge.runtime.generator.isolated.protocol import Failed, unpacked
from medge.runtime.golden.phantom import phantom

SCHEMA = {"type": "object", "properties": {"seen": {"enum": ["yes", "no"]}}, "required": ["seen"]}
LONG = Sampling(limit=300)


def load(folder: Path, **chosen: Any) -> Any:
    return medge.load_generator(folder, allow_failed_parity=True, threads=1, **({"context": 512} | chosen))


@pytest.fixture(scope="module")
def here(tiny_reader: Path) -> Iterator[Generator]:
    with load(tiny_reader) as generator:
        yield generator


@pytest.fixture(scope="module")
def apart(tiny_reader: Path) -> Iterator[IsolatedGenerator]:
    with load(tiny_reader, isolate=True) as generator:
        yield generator


def pid_of(generator: IsolatedGenerator) -> int:
    return generator._opened().pid


def gone(pid: int) -> bool:
    for _ in range(200):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


USES: dict[str, Callable[[Generator], Any]] = {
    "text": lambda g: g.ask(None, "What is this?", Sampling(6)),
    "drawn": lambda g: g.ask(None, "What is this?", Sampling(6, 1.0, seed=7)),
    "thinking": lambda g: g.chat([system("Be kind."), user("Why?")], Sampling(4), think=True),
    "image": lambda g: g.ask(phantom(), "What is this?", Sampling(6)),
    "two images": lambda g: g.ask([phantom(), 255 - phantom()], "Which is it?", Sampling(6)),
    "again": lambda g: g.ask([phantom(), 255 - phantom()], "And which was it?", Sampling(6)),  # most of the prompt is kept
    "schema": lambda g: g.chat([user("Is it a CT?")], Sampling(40), schema=SCHEMA),
    "stream": lambda g: list(g.stream([user(phantom(), "Why? \u00df \U0001f600")], Sampling(6))),
    "room": lambda g: (g.context, g.image_tokens, g.count_tokens("No pleural effusion.")),
}  # fmt: skip


def test_the_same_answers_as_here(here: Generator, apart: IsolatedGenerator) -> None:
    for generator in (here, apart):
        generator.close()  # nothing is kept of what was asked before
    assert {name: use(apart) for name, use in USES.items()} == {name: use(here) for name, use in USES.items()}
    assert pid_of(apart) != os.getpid()


FAULTS: dict[str, Callable[[Generator], Any]] = {
    "too long": lambda g: g.ask(None, "word " * 4000),
    "no schema": lambda g: g.chat([user("Why?")], schema={"$ref": 3}),
    "no JSON": lambda g: g.chat([user("Why?")], schema={"enum": {1}}),
    "half a character": lambda g: g.ask(None, "a\ud800b"),
    "no question": lambda g: g.ask(None, " "),
    "an image in the instruction": lambda g: g.chat([system(phantom()), user("Why?")]),  # type: ignore[arg-type]  # what is refused
    "no image": lambda g: g.ask("nowhere.png", "Why?"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_errors_say_what_they_say_here(here: Generator, apart: IsolatedGenerator, fault: str) -> None:
    said = []
    for generator in (here, apart):
        with pytest.raises(errors.MedgeError) as caught:
            FAULTS[fault](generator)
        said.append((type(caught.value), str(caught.value)))
    assert said[0] == said[1]
    assert apart.ask(None, "Why?", Sampling(2)).tokens <= 2


def test_every_error_keeps_its_class() -> None:
    named = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.MedgeError)]
    assert MissingExtraError in named
    assert [type(Failed(one.__name__, "why").error()) for one in named] == named
    assert str(Failed("MissingExtraError", "install it").error()) == "install it"
    for name in ("KeyError", "one_line", "nothing"):
        assert type(Failed(name, "why").error()) is GeneratorError


@pytest.mark.parametrize(
    "words", [b"", b"[]", b"{}", b'{"type": "Opened"}', b'{"type": "Opened", "context": "5"}', b"[" * 100_000, b"\xff",
              b'{"type": "Counted", "tokens": 1, "more": 2}'],
)  # fmt: skip
def test_a_reply_that_makes_no_sense_is_not_believed(words: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  - which of its kinds says nothing
        unpacked(words)


@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
@pytest.mark.parametrize(
    ("number", "reason"), [(11, "broke down .SIGSEGV"), (6, "broke down .SIGABRT"), (9, "memory runs out")]
)
def test_a_process_that_ends_costs_one_answer(apart: IsolatedGenerator, number: int, reason: str) -> None:
    wanted = apart.ask(None, "Why?", Sampling(5)).text
    stream, before = apart.stream([user("Why?")], LONG), pid_of(apart)
    next(stream)
    os.kill(before, number)
    with pytest.raises(GeneratorError, match=reason) as caught:
        list(stream)
    assert "ask again" in str(caught.value)
    assert apart.ask(None, "Why?", Sampling(5)).text == wanted
    assert pid_of(apart) != before
    assert not psutil.pid_exists(before)  # nor is it a zombie


def test_what_it_said_last_is_told(apart: IsolatedGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    process = apart._opened()._process
    monkeypatch.setattr(type(process), "last_words", lambda self: "ggml.c:7: GGML_ASSERT(sane) failed\x1b[31m")
    process._process.kill()
    process._process.wait()
    monkeypatch.setattr(type(process), "signal_name", lambda self: "SIGABRT")
    with pytest.raises(GeneratorError) as caught:
        apart._worker.count("a")  # type: ignore[union-attr]  # opened above
    assert "(SIGABRT: ggml.c:7: GGML_ASSERT(sane) failed\\x1b[31m)" in str(caught.value)


def test_one_that_was_killed_while_it_waited_costs_nothing(apart: IsolatedGenerator) -> None:
    worker = apart._opened()
    psutil.Process(worker.pid).kill()
    worker._process._process.wait(30)  # as long as one of its threads is still ending, the system calls it alive
    assert apart.ask(None, "Why?", Sampling(2)).tokens <= 2
    assert pid_of(apart) != worker.pid


def test_a_stream_that_is_left_costs_nothing(apart: IsolatedGenerator) -> None:
    stream = apart.stream([user("Why?")], LONG)
    next(stream)
    process = psutil.Process(pid_of(apart))
    before = sum(process.cpu_times()[:2])
    time.sleep(0.3)
    assert sum(process.cpu_times()[:2]) - before < 0.05
    with pytest.raises(GeneratorError, match="in the middle of an answer"):
        apart.ask(None, "And why?")
    assert apart.count_tokens("Why") > 0  # beside the stream
    stream.close()
    assert apart.ask(None, "Why?", Sampling(2)).tokens <= 2
    assert process.is_running()


def test_threads_get_what_each_would_get_alone(apart: IsolatedGenerator) -> None:
    questions = [(f"Question {number}: what is it?", phantom() if number % 2 else None) for number in range(6)]

    def ask(question: tuple[str, np.ndarray[Any, Any] | None]) -> str:
        return apart.ask(question[1], question[0], Sampling(8)).text

    alone = [ask(question) for question in questions]
    assert len(set(alone)) > 1
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(ask, question) for question in questions]
        apart.close()  # in between: another process is started
        assert [answer.result() for answer in answers] == alone


def test_closed_in_the_middle_of_a_stream(apart: IsolatedGenerator) -> None:
    stream = apart.stream([user("Why?")], LONG)
    next(stream)
    before = pid_of(apart)
    apart.close()
    assert not psutil.pid_exists(before)
    with pytest.raises(GeneratorError, match="was closed"):
        list(stream)
    assert apart.ask(None, "Why?", Sampling(2)).tokens <= 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_has_a_process_of_its_own(apart: IsolatedGenerator) -> None:
    wanted = apart.ask(None, "Why?", Sampling(4)).text
    stream, before = apart.stream([user("Why?")], LONG), pid_of(apart)
    next(stream)
    child = os.fork()
    if child == 0:
        try:
            said = ""
            try:
                next(stream)
            except GeneratorError as error:
                said = str(error)
            own = apart.ask(None, "Why?", Sampling(4)).text == wanted and pid_of(apart) != before
            apart.close()
            os._exit(0 if own and "was forked from; ask again" in said else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert sum(fragment.stop is not None for fragment in stream) == 1
    assert pid_of(apart) == before


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals to a thread here")
@pytest.mark.parametrize("goes_on", [True, False])
def test_ctrl_c_leaves_no_old_answer(
    apart: IsolatedGenerator, monkeypatch: pytest.MonkeyPatch, goes_on: bool
) -> None:  # fmt: skip
    """Where the piece on its way comes soon, the model stays loaded; the process is stopped here, as if it computed for long."""
    wanted, before = apart.ask(None, "Why?", Sampling(5)), pid_of(apart)
    monkeypatch.setattr(module, "GRACE", 10.0 if goes_on else 0.1)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background ignores it
    os.kill(before, signal.SIGSTOP)

    def interrupt() -> None:
        time.sleep(0.3)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        time.sleep(0.2)
        if goes_on:
            os.kill(before, signal.SIGCONT)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            apart.ask(None, "And why?", LONG)
    finally:
        interrupting.join()
        signal.signal(signal.SIGINT, handler)
    assert apart.ask(None, "Why?", Sampling(5)).text == wanted.text
    assert (pid_of(apart) == before) is goes_on


SCRIPT = """
import sys
import medge
reader = medge.load_generator(sys.argv[1], allow_failed_parity=True, context=512, threads=1, isolate=True)
stream = reader.stream([medge.user("Why?")], medge.Sampling(limit=300))
next(stream)
print("llama_cpp" in sys.modules, reader._worker.pid, flush=True)
stream.close()
while sys.argv[2] == "compute":
    reader.ask(None, "Why?", medge.Sampling(limit=300))
sys.stdin.read()
"""


@pytest.mark.parametrize("does", ["wait", "compute"])
def test_it_ends_with_its_parent(tiny_reader: Path, does: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tiny_reader), does]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        native, pid = process.stdout.readline().split()
        assert native == "False"  # llama.cpp is not loaded where the question is asked
        assert psutil.pid_exists(int(pid))
        process.kill()
    assert gone(int(pid))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_its_limits(apart: IsolatedGenerator) -> None:
    place = Path("/proc") / str(pid_of(apart))
    limits = {line[:26].strip(): line[26:].split()[0] for line in (place / "limits").read_text().splitlines()[1:]}
    assert limits["Max core file size"] == "0"
    assert (1 << 30) < int(limits["Max data size"]) < (4 << 30)
    assert (place / "oom_score_adj").read_text().strip() == "500"
    assert [os.readlink(place / "fd" / stream) for stream in "01"] == ["/dev/null"] * 2


def test_room_is_made_in_another_process(tiny_reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medge.runtime.generator.generator.DEFAULT_CONTEXT", 512)
    with load(tiny_reader, context=None, isolate=True) as generator:
        assert generator.context == 512
        assert generator.make_room(700) >= 700
        assert generator.ask(None, "that " * 560, Sampling(2)).prompt_tokens > 512


def test_files_are_those_that_were_checked(tiny_reader: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_reader, tmp_path / "reader"))
    generator = load(folder, isolate=True)
    os.utime(folder / "Tiny-Gemma-F16.gguf", (1, 1))
    with pytest.raises(BundleError, match="was replaced or changed"):
        generator.ask(None, "Why?")


def test_what_can_not_be_opened_or_started_is_said(
    tiny_reader: Path, apart: IsolatedGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    assert repr(apart).startswith("<IsolatedGenerator ")
    with pytest.raises(GeneratorError, match="in another process"):
        _ = apart.engine
    with pytest.raises(ContextError, match="does not fit into memory"):
        load(tiny_reader, context=2_000_000_000, isolate=True).ask(None, "Why?")
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(GeneratorError, match="process needs a Python interpreter of its own"):
        load(tiny_reader, isolate=True).ask(None, "Why?")
