"""Agents: tools described by their signatures, called by grammar, and allowed to fail."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import pytest

pytest.importorskip("llama_cpp", reason="llama_cpp is not installed: pip install 'medge[llm]'")

import medge
from medge.runtime.assistants.agent import Agent, Outcome, Tool, call_schema, encoder_tools
from medge.runtime.errors import GeneratorError, ToolError
from medge.runtime.generator.conversation import Answer, Fragment, Sampling, Turn
from medge.runtime.generator.generator import Generator


def look_up(drug: str, dose: float = 1.0, route: Literal["oral", "iv"] = "oral") -> str:
    """Say what a drug is for."""
    return f"{drug} {dose} {route}"


def explode(times: int) -> str:
    """Raise an error."""
    raise ValueError(f"no such thing, {times} times")


class Scripted:
    """A chat that answers what it is told to, and keeps what it was asked."""

    def __init__(self, *replies: dict[str, Any] | str) -> None:
        self.replies = [reply if isinstance(reply, str) else json.dumps(reply) for reply in replies]
        self.asked: list[list[Any]] = []
        self.schemas: list[dict[str, Any] | None] = []
        self.samplings: list[Sampling] = []

    def stream(self, *_: object, **__: object) -> Iterator[Fragment]:
        raise NotImplementedError

    def chat(
        self, turns: Sequence[Turn], sampling: Sampling = Sampling(), *, think: bool = False,  # noqa: B008
        schema: dict[str, Any] | None = None,
    ) -> Answer:  # fmt: skip
        self.asked.append(list(turns))
        self.schemas.append(schema)
        self.samplings.append(sampling)
        return Answer(self.replies.pop(0), "", "end", 1, 0, 1)


def run(*replies: dict[str, Any] | str, **options: Any) -> tuple[Outcome, Scripted]:
    generator = Scripted(*replies)
    return Agent(generator, [look_up, explode], **options).run("What helps?"), generator


def test_a_signature_becomes_a_schema() -> None:
    tool = Tool.of(look_up)
    assert tool.parameters["required"] == ["drug"]
    assert tool.parameters["properties"]["route"] == {"enum": ["oral", "iv"]}
    assert tool.description == "Say what a drug is for."


def test_a_call_and_an_answer() -> None:
    call = {"tool": "look_up", "arguments": {"drug": "aspirin", "dose": 2.0}}
    outcome, generator = run(call, {"answer": "Aspirin does."})
    assert outcome.answer == "Aspirin does."
    assert [(step.tool, step.result) for step in outcome.steps] == [("look_up", "aspirin 2.0 oral")]
    opening, reply, result = generator.asked[1]
    assert "look_up(drug, dose, route): Say what a drug is for." in opening.parts[0]
    assert json.loads(reply.parts[0]) == call
    assert result.parts[0] == "look_up returned: aspirin 2.0 oral"


def test_a_tool_that_raises_is_told_to_the_model() -> None:
    outcome, generator = run({"tool": "explode", "arguments": {"times": 2}}, {"answer": "I can't."})
    assert outcome.steps[0].failed
    assert "ValueError: no such thing, 2 times" in generator.asked[1][-1].parts[0]
    assert outcome.answer == "I can't."


def test_it_must_answer_when_the_steps_run_out() -> None:
    call = {"tool": "look_up", "arguments": {"drug": "x"}}
    outcome, generator = run(call, call, {"answer": "enough"}, most_steps=2)
    assert len(outcome.steps) == 2
    assert generator.schemas[-1] == call_schema([])
    assert outcome.answer == "enough"


def test_every_step_is_sampled_as_asked() -> None:
    sampling = Sampling(limit=77, temperature=0.5, seed=3)
    call = {"tool": "look_up", "arguments": {"drug": "x"}}
    _, chat = run(call, {"answer": "enough"}, sampling=sampling)
    assert chat.samplings == [sampling, sampling]


def test_a_reply_that_was_cut_off_ends_the_run() -> None:
    outcome, _ = run('{"answer": "it was')
    assert outcome.answer == '{"answer": "it was'


def test_an_agent_is_one_conversation() -> None:
    """A second thread is told so: its question would become part of the first one's conversation."""
    call = {"tool": "look_up", "arguments": {"drug": "aspirin", "dose": 2.0}}
    agent = Agent(Scripted(call, {"answer": "Aspirin does."}, {"answer": "Still."}), [look_up])
    steps = agent.steps("What helps?")
    next(steps)
    with ThreadPoolExecutor(1) as other, pytest.raises(GeneratorError, match="an agent for each conversation"):
        other.submit(agent.run, "And who is next?").result()
    assert list(steps) == ["Aspirin does."]
    with ThreadPoolExecutor(1) as other:
        assert other.submit(agent.run, "And now?").result().answer == "Still."


def test_tools_that_can_not_be_described() -> None:
    def silent(x: int) -> int:
        return x

    def odd(x: dict[str, int]) -> int:
        """Take a mapping."""
        return len(x)

    def wide(*names: str) -> int:
        """Take any number."""
        return len(names)

    for function, reason in ((silent, "docstring"), (odd, "parameter x has the type"), (wide, "name the parameters")):
        with pytest.raises(ToolError, match=reason):
            Tool.of(function)
    answer = Tool("answer", "x", {"type": "object", "properties": {}}, print)
    with pytest.raises(ToolError, match="how the model ends"):
        Agent(Scripted(), [answer])


@pytest.fixture(scope="module")
def mini(reader: Path) -> Generator:
    return medge.load_generator(reader, context=4096)


def test_a_real_model_calls_tools_by_grammar(
    mini: Generator, bundle: Path, pydicom_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a MedSigLIP bundle as tools. What a base model of 270 M says is not the point; that every reply has form is."""
    encoder = medge.load_encoder(bundle)
    agent = medge.Agent(mini, [look_up, *encoder_tools(encoder)], most_steps=2, sampling=Sampling(200))
    replies: list[Answer] = []
    chat = mini.chat
    monkeypatch.setattr(mini, "chat", lambda *given, **options: replies.append(chat(*given, **options)) or replies[-1])
    outcome = agent.run(f"Is {pydicom_files / 'CT_small.dcm'} a chest film?")
    assert len(replies) == len(outcome.steps) + 1
    for step, reply in zip(outcome.steps, replies, strict=False):
        assert json.loads(reply.text)["tool"] == step.tool
        assert step.tool in agent.tools
    last = replies[-1]
    assert outcome.answer == (json.loads(last.text)["answer"] if last.stop == "end" else last.text)


def test_the_encoders_tools_work(bundle: Path, pydicom_files: Path, few_images: Path, tmp_path: Path) -> None:
    from medge.runtime.encoder.vector_index import build_index

    encoder = medge.load_encoder(bundle)
    build_index(tmp_path / "i.index", encoder, sorted(few_images.glob("*.dcm")))
    tools = {tool.name: tool.function for tool in encoder_tools(encoder, tmp_path / "i.index")}
    scores = tools["classify"](str(pydicom_files / "CT_small.dcm"), ["abdomen CT", "hand x-ray"])
    assert {score["label"] for score in scores} == {"abdomen CT", "hand x-ray"}
    assert scores[0]["probability"] >= scores[1]["probability"]
    assert len(tools["search"]("CT of the abdomen", 2)) == 2
    with pytest.raises(ToolError, match="at least one label"):
        tools["classify"](str(pydicom_files / "CT_small.dcm"), [])


def test_a_simulated_patient_is_examined(mini: Generator, shared: Path) -> None:
    """AgentClinic's cases: the doctor asks the patient and orders tests by tools, then names a diagnosis."""
    cases = (shared / "agentclinic" / "medqa.jsonl").read_text().splitlines()[:2]
    assert len(cases) == 2
    for line in cases:
        case = json.loads(line)["OSCE_Examination"]

        def ask_patient(question: str, case: dict[str, Any] = case) -> str:
            """Ask the patient a question."""
            return json.dumps(case["Patient_Actor"])[:600]

        def order_test(name: str, case: dict[str, Any] = case) -> str:
            """Order an examination or a test."""
            results = {**case["Physical_Examination_Findings"], **case.get("Test_Results", {})}
            return json.dumps(results.get(name, "normal"))[:400]

        describe = {"type": "object", "properties": {"question": {"type": "string", "maxLength": 60}},
                    "required": ["question"], "additionalProperties": False}  # fmt: skip
        order = {"type": "object", "properties": {"name": {"enum": sorted(case["Test_Results"])}},
                 "required": ["name"], "additionalProperties": False}  # fmt: skip
        tools = [Tool("ask_patient", "Ask the patient.", describe, ask_patient),
                 Tool("order_test", "Order a test.", order, order_test)]  # fmt: skip
        outcome = medge.Agent(mini, tools, most_steps=2, sampling=Sampling(96)).run(case["Objective_for_Doctor"])
        assert outcome.answer
        assert not any(step.failed for step in outcome.steps)
