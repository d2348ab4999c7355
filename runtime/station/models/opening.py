"""Bundles opened for the station: an encoder in this process, a language model in one of its own."""

from __future__ import annotations

from typing import Any

from ...bundles.bundle import Bundle
from ...encoder.encoder import Encoder
from ...encoder.load import open_encoder
from ...generator.generator import Generator
from ...generator.isolated.generator import IsolatedGenerator
from ...generator.planner import Device, Opening, Plan
from ...kinds import KINDS
from .admission import Admission
from .catalogue import Entry


class BundleOpener:
    """Opens bundles from their folders.

    Args:
        threads: of each engine; its own choice where None.
        context: positions of a language model's context; as many as fit where None.
        allow_failed_parity: load a bundle whose parity gate failed or was never measured.
        admission: whose bundles are let in; everybody's where None.
    """

    def __init__(
        self, *, threads: int | None = None, context: int | None = None, allow_failed_parity: bool = False,
        admission: Admission | None = None,
    ) -> None:  # fmt: skip
        self._threads, self._context, self._allow = threads, context, allow_failed_parity
        self._admission = admission or Admission()

    def plan(self, entry: Entry, device: Device) -> Plan:
        """What a bundle takes on a device."""
        bundle = Bundle.open(entry.folder, verify=False, allow_failed_parity=True)  # the verdict is looked at by `open`
        return KINDS[entry.kind].plan(bundle, device, Opening(self._context))

    def open(self, entry: Entry, plan: Plan) -> Encoder | Generator:
        """Load a bundle with its engines, so that what memory is left can be seen afterwards."""
        bundle = self._admission.open(entry.folder, allow_failed_parity=self._allow)
        if entry.kind == "encoder":
            encoder = open_encoder(bundle, threads=self._threads, sleeping=True)
            for tower in encoder.towers:
                encoder._session(tower)
            return encoder
        generator = IsolatedGenerator(bundle, context=plan.context, threads=self._threads, cache=plan.cache)
        generator.context  # noqa: B018  - starts its process
        return generator

    def close(self, model: Any) -> None:
        """Give a model's memory back: an encoder's goes with the last reference to it."""
        if isinstance(model, Generator):
            model.close()
