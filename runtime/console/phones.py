"""Several bundles side by side: how large each is, what it lost, and which phone holds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.text import Text

from ..generator.planner import Device
from ..kinds import KINDS

if TYPE_CHECKING:
    from rich.table import Table

    from ..bundles.bundle import Bundle
    from ..generator.planner import Fit, Opening, Plan

GIGABYTES = (3, 4, 6, 8)
# Assumed of a phone of the middle class: half of its memory is free for the app, four cores compute, memory gives 10 GB/s.
FREE, CORES, BANDWIDTH = 0.5, 4, 10e9

# What a parity report's gates measured, in a reader's words; of each bundle those that it has.
LOSSES = {
    "text.kld.mean": "KL div. {:.3f}",
    "text.same_top": "same next word {:.0%}",
    "image.same_top": "{:.0%} after an image",
    "vision.centred_cosine.min": "least cosine {:.4f}",
    "scores.flips": "{:.1%} other answers",
}


@dataclass(frozen=True)
class OnPhones:
    """One bundle.

    Attributes:
        name, recipe: of the bundle, and of its parts.
        bytes: of the files that an engine opens.
        verdict: of its parity report; None where nothing was measured.
        losses: {figure: value}, as measured when it was made.
        plans: for phones of `GIGABYTES`, in their order.
        tokens_per_second: of an answer, estimated: each token reads all weights once, from memory. None of an encoder.
    """

    name: str
    recipe: str
    bytes: int
    verdict: str | None
    losses: dict[str, float]
    plans: tuple[Plan, ...]
    tokens_per_second: float | None

    def facts(self) -> dict[str, Any]:
        """The same for machines."""
        phones = [
            {"memory_gb": size, "fit": plan.fit, "context": plan.context, "needs_bytes": plan.need.total,
             "read_again_bytes": plan.read_again}
            for size, plan in zip(GIGABYTES, self.plans, strict=True)
        ]  # fmt: skip
        return {
            "recipe": self.recipe, "bytes": self.bytes, "parity": self.verdict, "losses": self.losses, "phones": phones,
            "tokens_per_second_estimated": self.tokens_per_second,
        }  # fmt: skip


def phone(gigabytes: float) -> Device:
    """A phone with so much memory, as far as the planner asks."""
    total = int(gigabytes * 1e9)
    return Device(memory_total=total, memory_free=int(total * FREE), cores=CORES, features=(), gpu=0)


def on_phones(bundle: Bundle, opening: Opening) -> OnPhones:
    """What is known of a bundle, and how it would run on phones."""
    manifest = bundle.manifest
    measured = [artefact.parity for artefact in manifest.artefacts.values() if artefact.parity is not None]
    values = {gate.figure: gate.value for one in measured for gate in one.gates if gate.value is not None}
    recipes = dict.fromkeys(tower.recipe for _, tower in sorted(manifest.towers.items()))  # the language model first
    parts = [entry for entry in manifest.files if entry.role.partition(".")[0] in manifest.towers]
    language = sum(entry.bytes for entry in parts if entry.role == "language")
    return OnPhones(
        manifest.name, " + ".join(recipes), sum(entry.bytes for entry in parts),
        next((told for told in ("failed", "passed") if any(one.status == told for one in measured)), None),
        {figure: values[figure] for figure in LOSSES if figure in values},
        tuple(KINDS[manifest.kind].plan(bundle, phone(size), opening) for size in GIGABYTES),
        BANDWIDTH / language if language else None,
    )  # fmt: skip


def fit_words(fit: Fit) -> Text:
    """How a bundle runs, for a table."""
    words, colour = {
        "in memory": ("fits", "green"), "from storage": ("from storage", "yellow"), "not at all": ("does not fit", "red")
    }[fit]  # fmt: skip
    return Text(words, colour)


def phones_table(rows: Sequence[OnPhones]) -> Table:
    """A row for each bundle, with a line for each phone."""
    from rich.table import Table

    table = Table(
        title="On phones, half of whose memory is free",
        caption="tokens a second: estimated, for 10 GB/s of memory; context: the longest that fits, in tokens",
        show_lines=True,
    )
    for column in ("bundle", "recipe", "GB", "what it lost", "parity", "tokens/s"):
        table.add_column(column, justify="right" if column in ("GB", "tokens/s") else "left", overflow="fold")
    table.add_column("phone: context", no_wrap=True)
    for row in rows:
        lost = "\n".join(LOSSES[figure].format(value) for figure, value in row.losses.items())
        speed = "" if row.tokens_per_second is None else f"{row.tokens_per_second:.1f}"
        phones = [_line(size, plan) for size, plan in zip(GIGABYTES, row.plans, strict=True)]
        verdict = row.verdict or "not measured"
        table.add_row(
            row.name, row.recipe, f"{row.bytes / 1e9:.2f}", lost or "–", verdict, speed, Text("\n").join(phones)
        )
    return table


def _line(size: int, plan: Plan) -> Text:
    room = f", {plan.context}" if plan.context and plan.fit != "not at all" else ""
    return Text(f"{size} GB: ").append_text(fit_words(plan.fit)).append(room)
