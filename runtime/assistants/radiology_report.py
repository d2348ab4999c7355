"""Reports on images: findings and impression, as JSON that a schema forces, and as text made from it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import GeneratorError
from ..generator.conversation import CUT_OFF, Answer, Chat, Sampling, Stop, about
from ..notebook import paragraph, table
from ..pictures.images import ImageSource
from ..pictures.view import DEFAULT_VIEW, View


@dataclass(frozen=True)
class Template:
    """A kind of report: what to look at, in this order, each a key of the findings."""

    name: str
    instruction: str
    regions: tuple[str, ...]


TEMPLATES: dict[str, Template] = {
    template.name: template
    for template in (
        Template("general", "Describe this medical image for a report.", ("description",)),
        Template(
            "chest-xray", "Write a report on this chest radiograph.",
            ("lungs", "pleura", "heart", "mediastinum", "bones", "devices"),
        ),
        Template("ct", "Write a report on this CT.", ("technique", "organs", "vessels", "bones", "other")),
        Template("fundus", "Write a report on this fundus photograph.", ("disc", "macula", "vessels", "periphery")),
        Template("dermatology", "Write a report on this skin lesion.", ("morphology", "colour", "border", "distribution")),
        Template("pathology", "Write a report on this tissue section.", ("tissue", "architecture", "cytology", "margins")),
    )
}  # fmt: skip
# A grammar lets strings grow without end; a sentence or two are asked for, and this is where they are cut.
MOST_CHARACTERS = 240
REPORT_SAMPLING = Sampling(limit=1024)


@dataclass(frozen=True)
class Report:
    """Findings by region and the impression.

    Attributes:
        template: the kind of report.
        findings: {region: text}; of a report that was cut off, those that were whole.
        impression: "" where the report was cut off.
        stop: why it ended: "end"; cut off, "limit" at the token limit, "context" where the context was full.
    """

    template: str
    findings: dict[str, str]
    impression: str
    stop: Stop

    @property
    def complete(self) -> bool:
        """Whether it was not cut off."""
        return self.stop == "end"

    def _repr_html_(self) -> str:
        cut = "" if self.complete else paragraph(f"Cut off {CUT_OFF[self.stop]}: regions are missing.")
        return table(("region", "findings"), [*self.findings.items(), ("impression", self.impression)]) + cut

    @property
    def text(self) -> str:
        """The report as prose."""
        lines = [f"{region.capitalize()}: {text}" for region, text in self.findings.items()]
        return "\n".join(["FINDINGS", *lines, "", "IMPRESSION", self.impression])

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"template": self.template, "findings": self.findings, "impression": self.impression,
                "stop": self.stop}  # fmt: skip


def schema_of(template: Template) -> dict[str, Any]:
    """The JSON schema that forces a report's form."""
    text = {"type": "string", "minLength": 1, "maxLength": MOST_CHARACTERS}
    regions = {region: text for region in template.regions}
    findings = {"type": "object", "properties": regions, "required": list(regions), "additionalProperties": False}
    return {
        "type": "object", "properties": {"findings": findings, "impression": text},
        "required": ["findings", "impression"], "additionalProperties": False,
    }  # fmt: skip


def write_report(
    chat: Chat, images: ImageSource | Sequence[ImageSource], template: str | Template = "general",
    sampling: Sampling = REPORT_SAMPLING, *, clinical: str = "", view: View = DEFAULT_VIEW,
) -> Report:  # fmt: skip
    """Report on one image, or on several that belong together.

    Args:
        chat: a multimodal model.
        images: what to report on.
        template: a name of `TEMPLATES`, or one of your own.
        sampling: how long the report may be, and how its tokens are chosen.
        clinical: what the reader should know, such as the clinical question.
        view: which frame and which window of a file.

    Raises:
        GeneratorError: there is no such template.
        ImageError: an image can't be read.

    Examples:
        >>> reader = medge.load_generator("reader", context=1024)
        >>> report = medge.write_report(reader, "film.dcm", "ct", medge.Sampling(limit=40))
        >>> report.template
        'ct'
    """
    if isinstance(template, str):
        if template not in TEMPLATES:
            raise GeneratorError(f"there is no report template {template!r}; choose from {', '.join(TEMPLATES)}")
        template = TEMPLATES[template]
    asked = f"{template.instruction} {clinical}".strip() + (
        f"\nGive findings on {', '.join(template.regions)}, a sentence or two each, and an impression, as JSON."
    )
    answer = chat.chat([about(images, asked, view)], sampling, schema=schema_of(template))
    try:
        body = json.loads(answer.text)
        return Report(template.name, body["findings"], body["impression"], answer.stop)
    except ValueError:
        return _cut_off(template, answer)


def _cut_off(template: Template, answer: Answer) -> Report:
    """What can be saved of JSON that was cut off: whole findings, said to be incomplete."""
    decoder, findings, text = json.JSONDecoder(), {}, answer.text
    for region in template.regions:
        at = text.find(f'"{region}":')
        if at >= 0:
            try:
                start = at + len(region) + 3
                value, _ = decoder.raw_decode(text[start:].lstrip())
                findings[region] = str(value)
            except ValueError:
                break
    return Report(template.name, findings, "", answer.stop)
