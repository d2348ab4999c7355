"""Questions over a patient's record (FHIR R4): lines made of resources, those that fit chosen, and sources cited.

Every resource becomes one line of text. The lines that share words with the question come first (BM25; Robertson and
Zaragoza 2009), then what anyone should know of a patient: active problems, current medicines, allergies, and what is
recent; as many as the context holds. The model answers in JSON and can only cite lines that it was shown.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..generator.conversation import CUT_OFF, RoomyChat, Sampling, Stop, refuse_empty, user
from ..notebook import paragraph
from .fhir import Line, Source, read_record

_ALWAYS = frozenset({"Patient", "AllergyIntolerance"})
K1, B = 1.2, 0.75
RECORD_SAMPLING = Sampling(limit=320)


@dataclass(frozen=True)
class RecordAnswer:
    """An answer over a record.

    Attributes:
        text: the answer.
        sources: ids of the resources it rests on, as the model says.
        shown, of: how many lines the model saw, and how many the record has.
        stop: why it ended: "end"; cut off, "limit" at the token limit, "context" where the context was full.
        note: one sentence on what of the record is known to be missing, or "".
    """

    text: str
    sources: tuple[str, ...]
    shown: int
    of: int
    stop: Stop
    note: str = ""

    @property
    def complete(self) -> bool:
        """Whether it was not cut off."""
        return self.stop == "end"

    def _repr_html_(self) -> str:
        cited = (
            f"Sources: {', '.join(self.sources) or 'none'}. {self.shown} of {self.of} lines of the record were shown."
        )
        cut = "" if self.complete else f"Cut off {CUT_OFF[self.stop]}. "
        return paragraph(self.text) + paragraph(f"{cut}{cited} {self.note}".strip())


def rank(lines: Sequence[Line], question: str) -> list[Line]:
    """Lines in the order in which they deserve a place in the prompt."""
    documents = [_words(line.text) for line in lines]
    average = sum(map(len, documents)) / len(documents)
    frequency = Counter(word for words in documents for word in set(words))
    asked = set(_words(question))
    newest = {line.resource: place for place, line in enumerate(lines)}

    def score(pair: tuple[Line, list[str]]) -> tuple[bool, float, bool, int]:
        line, words = pair
        counts = Counter(words)
        relevance = 0.0
        for word in asked & counts.keys():
            rarity = math.log(1 + (len(lines) - frequency[word] + 0.5) / (frequency[word] + 0.5))
            relevance += rarity * counts[word] * (K1 + 1) / (counts[word] + K1 * (1 - B + B * len(words) / average))
        standing = line.kind in {"Condition", "MedicationRequest", "MedicationStatement"} and line.active
        return line.kind in _ALWAYS, relevance, standing, newest[line.resource]

    return [line for line, _ in sorted(zip(lines, documents, strict=True), key=score, reverse=True)]


def _words(text: str) -> list[str]:
    """Lower-case words without the endings that separate a question from a record ("medications", "medication")."""
    return [re.sub(r"(ies|es|s|ing|ed)$", "", word) for word in re.findall(r"[a-z0-9]{2,}", text.lower())]


def answer_from_record(
    chat: RoomyChat, source: Source, question: str, sampling: Sampling = RECORD_SAMPLING, *, form: str = ""
) -> RecordAnswer:
    """Answer a question over a record; see the module's text for how.

    Args:
        chat: a language model.
        source: a FHIR R4 Bundle, resources, or several files of them; as in `read_record`.
        question: the question.
        sampling: how long the answer may be, and how its tokens are chosen.
        form: how the answer is to be given, such as "Answer with a date."; its words take no part in the choice of lines.

    Raises:
        RecordError: not a FHIR record, or of several patients.
        GeneratorError: the question is empty.
        ContextError: the question alone is too long for the context.

    Examples:
        >>> allergy = {"resourceType": "AllergyIntolerance", "id": "a1", "code": {"text": "penicillin"}}
        >>> found = medge.answer_from_record(medge.load_generator("reader", context=1024), [allergy], "Any allergy?")
        >>> found.shown, found.of
        (1, 1)
    """
    refuse_empty(question)
    record = read_record(source)
    lines = record.lines
    asked_for = f"{question}\n{form}" if form else question
    room = chat.context - sampling.limit - 200 - chat.count_tokens(asked_for)
    chosen: list[Line] = []
    for line in rank(lines, question):
        cost = chat.count_tokens(f"[R00] {line.text}\n")
        if cost <= room:
            chosen.append(line)
            room -= cost
    chosen.sort(key=lambda line: line.date)
    labels = {f"R{number}": line for number, line in enumerate(chosen, 1)}
    shown = "\n".join(f"[{label}] {line.text}" for label, line in labels.items())
    asked = (
        f"A patient's record, a line each:\n{shown}\n\nQuestion: {asked_for}\n"
        "Answer from these lines alone, as JSON, and name the lines the answer rests on."
    )
    schema = {
        "type": "object", "required": ["answer", "sources"], "additionalProperties": False,
        "properties": {
            "answer": {"type": "string", "minLength": 1, "maxLength": 600},
            "sources": {"type": "array", "items": {"enum": list(labels)}, "maxItems": 6},
        },
    }  # fmt: skip
    reply = chat.chat([user(asked)], sampling, schema=schema)
    try:
        body = json.loads(reply.text)
    except ValueError:
        return RecordAnswer(reply.text, (), len(chosen), len(lines), reply.stop, record.note)
    cited = tuple(dict.fromkeys(labels[label].resource for label in body["sources"]))
    return RecordAnswer(body["answer"], cited, len(chosen), len(lines), reply.stop, record.note)
