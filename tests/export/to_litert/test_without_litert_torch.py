"""What is said where litert-torch, which has an environment of its own, is not installed."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install 'medge[export]'")

from medge.export.jobs import encoder_job
from medge.export.jobs.encoder_job import ExportJob, read_job
from medge.export.jobs.formats import FORMATS
from medge.quant.recipes.litert import LITERT_RECIPES
from medge.runtime.errors import MissingExtraError, RecipeError


def test_the_format_is_known_and_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert FORMATS["litert"].table is LITERT_RECIPES
    monkeypatch.setattr(encoder_job, "find_spec", lambda _: None)
    job = ExportJob(tmp_path / "none", tmp_path / "out", formats=("litert",))
    with pytest.raises(
        MissingExtraError, match=r"needs the package 'litert_torch': pip install 'medge\[litert-export\]'"
    ):
        read_job(job)
    assert not job.out.exists()


def test_no_patches_are_merged(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="a LiteRT file merges no patches"):
        read_job(ExportJob(tmp_path / "none", tmp_path / "out", formats=("litert",), merge=2))
