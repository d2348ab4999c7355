"""Fill the reference pages from the code: the glossary, errors and exit codes, fields of manifest and report, gates.

python docs/make_reference.py
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, get_args, get_origin

from make_tables import fill

from medge.quant.recipes.coreml import COREML_RECIPES
from medge.quant.recipes.gguf import GGUF_RECIPES, PROJECTOR_RECIPES
from medge.quant.recipes.litert import LITERT_RECIPES
from medge.quant.recipes.onnx import ONNX_RECIPES
from medge.quant.recipes.recipe import PIXELS, SAME_IDS, STUDENT_GATES, Recipe
from medge.runtime import errors
from medge.runtime.bundles import bounds, facts, figures, gates, manifest, origin, parity_report
from medge.runtime.bundles.gates import Gate
from medge.runtime.commands.help import EXIT_CODES
from medge.runtime.console.help.glossary import read_glossary
from medge.runtime.decisions import facts as decisions
from medge.runtime.evaluation.layouts.choices import Choices
from medge.runtime.evaluation.layouts.class_folders import ClassFolders
from medge.runtime.evaluation.layouts.hdf5 import HDF5
from medge.runtime.evaluation.layouts.image_questions import ImageQuestions
from medge.runtime.evaluation.layouts.record_questions import RecordQuestions
from medge.runtime.evaluation.layouts.reports import IUReports, MIMICReports
from medge.runtime.evaluation.layouts.table import Join, Split, Table
from medge.runtime.evaluation.readings.table import READINGS
from medge.runtime.evaluation.task import Ask, Label, Named, QuestionTask, Task, read_task, task_names
from medge.runtime.pictures.preprocess import PROFILES

REFERENCE = Path(__file__).parent / "reference"
MANIFEST = (
    manifest.Manifest, facts.FileEntry, facts.Preprocessing, facts.EncoderFacts, facts.TokenizerFacts,
    facts.GeneratorFacts, facts.Artefact, facts.TowerFacts, facts.GoldenBound,
    facts.Source, facts.Calibration, facts.Teacher, gates.ParitySummary, gates.GateResult,
)  # fmt: skip
REPORT = (
    parity_report.ParityReport, origin.Origin, gates.GateResult, figures.EncoderFigures, figures.GeneratorFigures,
    figures.EmbeddingFigures, figures.ScoreFigures, figures.DivergenceFigures, figures.ImageFigures, figures.KLDivergence,
    figures.TaskFigures, figures.PixelFigures, figures.SameIds, figures.SpeedFigures, figures.TowerSizes,
    figures.GeneratorSizes, figures.Spread, figures.Interval, figures.Paired, figures.LabelFigures, figures.Rates,
    figures.Confusions, figures.StageRow, figures.EncoderPlots, figures.GeneratorPlots, figures.ScorePoints, figures.Curves,
    figures.Curve, figures.Calibration, figures.CalibrationBins, figures.ImageAnswer, figures.Places,
)  # fmt: skip

SCORES = (decisions.ScoreFacts, decisions.Wanted, decisions.Kind, decisions.OperatingPoint, decisions.Rate)
TASK_FIELDS = (
    Task, Label, Ask, Table, Join, Split, ClassFolders, HDF5, QuestionTask, Choices, ImageQuestions, RecordQuestions,
    MIMICReports, IUReports,
)  # fmt: skip


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def glossary() -> str:
    return "\n\n".join(f"## {term}\n\n{meaning}" for term, meaning in read_glossary().items())


def error_tree() -> str:
    _, _, tree = (errors.__doc__ or "").partition("\n\n")
    return f"```\n{tree.strip()}\n```"


def exit_codes() -> str:
    return table(["code", "when"], ((str(code), when) for code, when in EXIT_CODES.items()))


def fields(kinds: Iterable[type]) -> str:
    """A section for each dataclass: what its docstring says, and its fields."""
    return "\n\n".join(_section(kind) for kind in kinds)


def _section(kind: type) -> str:
    said, _, attributes = (inspect.getdoc(kind) or "").partition("\n\nAttributes:\n")
    meanings = _meanings(attributes)
    head = ["field", "type", "meaning"]
    rows = [[f"`{one.name}`", f"`{_type(one)}`", meanings.get(one.name, "")] for one in dataclasses.fields(kind)]
    if not meanings:
        head, rows = head[:-1], [row[:-1] for row in rows]
    return f"### {kind.__name__}\n\n{_prose(said)}\n\n{table(head, rows)}"


_BOUNDED = {name: get_args(kind)[0].__name__ for name, kind in vars(bounds).items() if get_origin(kind) is Annotated}


def _type(field: dataclasses.Field[object]) -> str:
    """A field's type as it is written, with the kinds by name, and of a bounded type what it bounds."""
    kinds = " | ".join(f'"{kind}"' for kind in get_args(manifest.KindName))
    found = str(field.type).replace("KindName", kinds)
    return re.sub(r"\w+", lambda word: _BOUNDED.get(word[0], word[0]), found)


def _prose(text: str) -> str:
    return re.sub(r"(?<!\n)\n(?!\n)", " ", text).strip()


def _meanings(attributes: str) -> dict[str, str]:
    """{field: meaning} of a docstring's "Attributes:"; a line may name several fields, and go on below, indented."""
    found: dict[str, str] = {}
    names: list[str] = []
    for line in attributes.splitlines():
        if begun := re.match(r" {4}((?:\w+, )*\w+): (.*)", line):
            names = begun[1].split(", ")
            found |= dict.fromkeys(names, begun[2])
        elif names and line.strip():
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return found


def _gates(found: Iterable[Gate]) -> str:
    return "<br>".join(_gate(gate) for gate in found) or "–"


def _gate(gate: Gate) -> str:
    warn = "" if gate.warn is None else f" (told beyond {gate.warn:g})"
    return f"`{gate.figure}` {gate.sense.replace('>=', '≥').replace('<=', '≤')} {gate.bound:g}{warn}"


def towers(recipes: Mapping[str, Recipe]) -> str:
    """Gates of an encoder's recipes."""
    rows = []
    for recipe in recipes.values():
        promise = recipe.promise
        golden = f"{promise.golden.statistic} ≥ {promise.golden.cosine:g}"
        rows.append([f"`{recipe.name}`", _gates(promise.part), _gates(promise.answers), golden])
    return table(["recipe", "each tower", "scores of labels", "golden results, cosine"], rows)


def languages(recipes: Mapping[str, Recipe]) -> str:
    """Gates of a language model's recipes: on text, or of a projector on the tokens of an image, and after an image."""
    rows = [
        [f"`{one.name}`", _gates(one.promise.tokens or one.promise.part), _gates(one.promise.images)]
        for one in recipes.values()
    ]
    return table(["recipe", "its own figures", "after an image"], rows)


def common() -> str:
    return table(
        ["bundle", "gates"],
        [
            ["every encoder", _gates([PIXELS])],
            ["every language model", _gates(SAME_IDS)],
            ["one that reads images", _gates([PIXELS])],
            ["a student against its teacher", _gates(STUDENT_GATES)],
        ],
    )


def profiles() -> str:
    return table(["profile", "how an image is resized"], ([f"`{one.name}`", one.summary] for one in PROFILES.values()))


def tasks() -> str:
    """A section for each task of `medge evaluate`."""
    return "\n\n".join(map(_task, task_names()))


def _task(name: str) -> str:
    named = read_task(name)
    task, rows, listed = named.task, [("source", named.task.source), ("protocol", named.task.protocol)], ""
    if isinstance(named, Named):
        one = named.task
        rows += [
            ("each image has", "one of the labels" if one.form == "one label" else "several labels, or none"),
            ("intervals over", f"{one.groups}s" if one.groups else "images"),
            ("prompts", ", ".join(f"`{text}`" for text in one.templates)),
            ("prompts that it is not there", ", ".join(f"`{text}`" for text in one.without)),
        ]
        if one.ask is not None:
            rows += [
                ("a language model is asked", f"`{one.ask.prompt}`"),
                ("its answers", one.ask.protocol),
                ("its prompt from", one.ask.prompts_from),
            ]
        labels = [(f"`{label}`", ", ".join(it.texts), it.value or label) for label, it in one.labels.items()]
        listed = f"\n\n{table(['label', 'stands in the prompts as', 'in the data'], labels)}" if labels else ""
    else:
        listed = "".join(f"\n\n{way}:\n\n```\n{text.strip()}\n```" for way, text in named.task.prompts.items())
    rows += [("not in it", task.absent), ("prompts from", task.prompts_from)]
    return f"## {name}\n\n{task.title}.\n\n{table(['', ''], [row for row in rows if row[1]])}{listed}"


def readers() -> str:
    """What models that read reports find."""
    rows = [
        [f"`--{name}`", one.protocol, ", ".join(f"`{figure}`" for figure in one.figures)]
        for name, one in READINGS.items()
    ]
    return table(["option", "what it is", "figures"], rows)


def render() -> dict[Path, str]:
    """{file: its text with what is generated as the code is now}."""
    pages = {
        "glossary": {"glossary": glossary()},
        "errors": {"errors": error_tree(), "exit-codes": exit_codes()},
        "bundle-format": {"fields": fields(MANIFEST), "scores": fields(SCORES)},
        "recipes": {"profiles": profiles()},
        "tasks": {"tasks": tasks(), "readers": readers(), "fields": fields(TASK_FIELDS)},
        "report": {
            "fields": fields(REPORT), "common": common(), "onnx": towers(ONNX_RECIPES), "coreml": towers(COREML_RECIPES),
            "litert": towers(LITERT_RECIPES),
            "language": languages(GGUF_RECIPES), "projector": languages(PROJECTOR_RECIPES), "tower": languages(ONNX_RECIPES),
        },
    }  # fmt: skip
    found = {}
    for name, bodies in pages.items():
        path = REFERENCE / f"{name}.md"
        text = path.read_text(encoding="utf-8")
        for mark, body in bodies.items():
            text = fill(text, mark, body)
        found[path] = text
    return found


if __name__ == "__main__":
    for path, text in render().items():
        path.write_text(text, encoding="utf-8")
