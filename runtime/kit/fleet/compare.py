"""A fleet's devices against each other: what runs where, which are slow, which compute badly, where drafts were overruled.

A device is compared with others that have the very same bundle, by the digest of its manifest. What each says is the newest that
it has sent.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from ..collected.report import FEWEST, Collected, Count, Model
from .read import Read

FORMAT = 1
SLOW, FEWEST_DEVICES = 1.5, 3  # times the median of at least so many devices
FAILED = "failed its self-test"
_NEAR = 0.8  # share of its bound beyond which a golden result is near to it


def compared(read: Read) -> dict[str, Any]:
    """The facts of the page, as JSON holds them.

    Args:
        read: of every device; at least one.
    """
    newest = {device: each[-1] for device, each in read.files.items()}
    medians = _medians(newest)
    return {
        "format": FORMAT, "newest_kit": max((one.kit or 0 for one in newest.values()), default=0) or None,
        "devices": [_device(read.files[name], medians) for name in newest],
        "models": list(_models(newest, medians)), "overruled": list(_overruled(newest)),
        "faults": list(_faults(newest)), "refused": list(read.refused),
    }  # fmt: skip


def _medians(newest: Mapping[str, Collected]) -> dict[str, tuple[float, int]]:
    """{a bundle's digest: (median seconds that its golden results take, on how many devices)}."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for one in newest.values():
        for model in one.models:
            if model.replay_seconds > 0:
                seconds[model.digest].append(model.replay_seconds)
    return {digest: (statistics.median(each), len(each)) for digest, each in seconds.items()}


def slowness(model: Model, medians: Mapping[str, tuple[float, int]]) -> float | None:
    """How many times the median of all devices with the same bundle one takes; None of too few devices."""
    median, devices = medians.get(model.digest, (0.0, 0))
    if devices < FEWEST_DEVICES or not model.replay_seconds or not median:
        return None
    return round(model.replay_seconds / median, 2)


def nearness(model: Model) -> float | None:
    """The greatest share of its bound that a golden result takes up: above 1 it is beyond. None where none was replayed."""
    shares = [one.measured / one.bound if one.bound > 0 else float(one.measured > 0) * 2 for one in model.replay]
    return round(max(shares), 3) if shares else None


def _device(sent: list[Collected], medians: Mapping[str, tuple[float, int]]) -> dict[str, Any]:
    one = sent[-1]
    models: list[dict[str, Any]] = [
        {
            "name": model.name, "digest": model.digest, "kind": model.kind, "recipes": model.recipes, "parity": model.parity,
            "good": model.good, "fault": model.fault, "replayed": bool(model.replay), "nearness": nearness(model),
            "near": (nearness(model) or 0) > _NEAR, "seconds": model.replay_seconds, "slowness": slowness(model, medians),
            "failed": [check.what for check in model.replay if not check.holds],
        }
        for model in one.models
    ]  # fmt: skip
    since = next(
        (step.day for step in reversed(one.history) if step.counter == one.kit and step.what != FAILED), None
    )  # fmt: skip
    trouble = [f"{model['name']} fails its golden results" for model in models if model["failed"] or model["fault"]] + (
        ["its audit log does not hold"] if one.held is not None and not one.held.audit_holds else []
    )
    slow = [model["name"] for model in models if (model["slowness"] or 0) >= SLOW]
    return {
        "id": one.device.id, "label": one.device.label, "medge": one.medge, "kit": one.kit, "since": since,
        "collected": one.day, "times": len(sent), "python": one.python, "packages": one.packages,
        "device": {
            "architecture": one.device.architecture, "release": one.device.release, "cores": one.device.cores,
            "memory": one.device.memory, "target": one.device.target, "features": one.device.features, "gpu": one.device.gpu,
        },
        "history": [vars(step) for step in one.history], "models": models, "trouble": trouble, "slow": slow,
        "studies": None if one.held is None else one.held.studies, "free": None if one.held is None else one.held.free,
        "work": [
            {"kind": work.kind, "model": work.model, "states": work.states, "median": work.seconds.median,
             "p90": work.seconds.p90, "tried_again": work.tried_again} for work in one.work
        ],
        "agreement": [
            {"template": each.template, "model": each.model, "signed": each.signed, "unchanged": each.unchanged,
             "words_kept": each.words_kept, "edits": each.edits.median} for each in one.agreement
        ],
    }  # fmt: skip


def _models(newest: Mapping[str, Collected], medians: Mapping[str, tuple[float, int]]) -> Iterator[dict[str, Any]]:
    """Each bundle, and how it does on the devices that have it, the slowest first."""
    on: dict[str, list[tuple[Collected, Model]]] = defaultdict(list)
    for one in newest.values():
        for model in one.models:
            on[model.digest].append((one, model))
    for digest, each in sorted(on.items(), key=lambda item: item[1][0][1].name):
        model = each[0][1]
        rows = [
            {
                "id": one.device.id, "label": one.device.label, "seconds": here.replay_seconds, "good": here.good,
                "slowness": slowness(here, medians), "nearness": nearness(here), "target": one.device.target,
                "cores": one.device.cores, "replayed": bool(here.replay),
            }
            for one, here in each
        ]  # fmt: skip
        rows.sort(key=lambda row: (-float(row["seconds"] or 0), str(row["id"])))
        yield {
            "name": model.name, "digest": digest, "kind": model.kind, "recipes": model.recipes, "bytes": model.bytes,
            "median": medians.get(digest, (None, 0))[0], "devices": rows,
        }  # fmt: skip


def _number(count: Count) -> int:
    """A count for weighing: those below five count for two."""
    return count if isinstance(count, int) else FEWEST // 2


def _overruled(newest: Mapping[str, Collected]) -> Iterator[dict[str, Any]]:
    """Findings of drafts, over all devices: those that were changed most first. Devices weigh by their drafts."""
    drafts: dict[tuple[str, str, str], list[tuple[str, str, int, float]]] = defaultdict(list)
    for one in newest.values():
        for agreement in one.agreement:
            for finding in agreement.findings:
                if finding.changed is not None:
                    place = (one.device.id, one.device.label, _number(finding.drafts), finding.changed)
                    drafts[agreement.template, agreement.model, finding.region].append(place)
    rows: list[dict[str, Any]] = []
    for (template, model, region), each in drafts.items():
        total = sum(number for *_, number, _ in each)
        worst = max(each, key=lambda one: one[3])
        rows.append({
            "template": template, "model": model, "region": region, "devices": len(each), "drafts": total,
            "changed": round(sum(number * changed for *_, number, changed in each) / total, 3),
            "most": {"id": worst[0], "label": worst[1], "changed": worst[3]},
        })  # fmt: skip
    yield from sorted(rows, key=lambda row: (-row["changed"], row["template"], row["region"]))


def _faults(newest: Mapping[str, Collected]) -> Iterator[dict[str, Any]]:
    """What failed where, on how many devices."""
    found: dict[tuple[str, str, str], list[Count]] = defaultdict(list)
    for one in newest.values():
        for fault in one.faults:
            found[fault.kind, fault.error, fault.place].append(fault.count)
    rows: list[dict[str, Any]] = [
        {"kind": kind, "error": error, "place": place, "devices": len(each), "jobs": sum(map(_number, each))}
        for (kind, error, place), each in found.items()
    ]
    yield from sorted(rows, key=lambda row: (-int(row["jobs"]), str(row["error"])))
