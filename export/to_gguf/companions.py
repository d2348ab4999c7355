"""What stands beside the language model in a bundle: configuration, and a Modelfile for Ollama."""

from __future__ import annotations

import json

from ...runtime.bundles.bundle import BundleWriter
from ...runtime.bundles.facts import TowerFacts
from ...runtime.device.gguf_header import read_header
from ...runtime.errors import CheckpointError
from ..source.checkpoint import Checkpoint, read_json


def write_companions(writer: BundleWriter, checkpoint: Checkpoint, towers: dict[str, TowerFacts]) -> None:
    """Write them into a bundle whose towers are written.

    Raises:
        CheckpointError: the checkpoint has no chat template.
    """
    config = json.dumps(checkpoint.config, indent=2) + "\n"
    writer.add("config.json", "config").write_text(config)
    preprocessor = checkpoint.folder / "preprocessor_config.json"
    if preprocessor.is_file():
        writer.add("preprocessor_config.json", "preprocessor").write_text(
            json.dumps(read_json(preprocessor), indent=2) + "\n"
        )
    template = read_header(writer.folder / towers["language"].file).metadata.get("tokenizer.chat_template")
    if not isinstance(template, str):
        raise CheckpointError(f"{checkpoint.folder}: no chat template in chat_template.jinja or tokenizer_config.json")
    writer.add("Modelfile", "ollama").write_text(modelfile(towers))


def modelfile(towers: dict[str, TowerFacts]) -> str:
    """An Ollama Modelfile: `ollama create medgemma -f Modelfile` inside the bundle.

    Ollama's templates are Go's, so the checkpoint's Jinja can't be handed over: Gemma's turns are written out here.
    """
    lines = [f"FROM ./{towers[part].file}" for part in ("language", "projector") if _is_gguf(towers.get(part))]
    template = (
        "{{- range $i, $_ := .Messages }}{{- $last := eq (len (slice $.Messages $i)) 1 }}"
        '{{- if or (eq .Role "user") (eq .Role "system") }}<start_of_turn>user\n{{ .Content }}<end_of_turn>\n'
        "{{ if $last }}<start_of_turn>model\n{{ end }}"
        '{{- else if eq .Role "assistant" }}<start_of_turn>model\n{{ .Content }}{{ if not $last }}<end_of_turn>\n'
        "{{ end }}{{- end }}{{- end }}"
    )
    return "\n".join(
        [*lines, f'TEMPLATE """{template}"""', 'PARAMETER stop "<end_of_turn>"', "PARAMETER temperature 0", ""]
    )


def _is_gguf(tower: TowerFacts | None) -> bool:
    return tower is not None and tower.format == "gguf"
