"""What all pages share: numbers, and matplotlib's list of fonts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from medge.runtime.pages.words import number, span, three


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (9.25926e-06, "9.3\u00a0×\u00a010⁻⁶"), (-2e-5, "−2.0\u00a0×\u00a010⁻⁵"), (0.9999, "0.99990"),
     (0.999987, "0.999987"), (0.0123456, "0.0123"),
     (0.93, "0.930"), (123456.0, "123,456"), (12.345, "12.3"), (0.0, "0"), (float("nan"), "not a number")],
)  # fmt: skip
def test_numbers_as_people_read_them(value: float | None, text: str) -> None:
    assert number(value) == text


def test_what_is_unknown_is_a_dash() -> None:
    assert three(None) == three(float("nan")) == "–"
    assert span(-0.02, None) == "−0.020 to –"


def test_what_rounds_to_zero_has_no_sign() -> None:
    assert (three(-0.0001), three(-0.0006)) == ("0.000", "−0.001")


@pytest.mark.parametrize("given", [None, "mine"])
def test_the_list_of_fonts_stays_out_of_the_home_and_of_other_processes(given: str | None, tmp_path: Path) -> None:
    """A child of a process that has drawn would list its fonts in a folder that the parent removes."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'medge[pages]'")
    code = (
        "import io, os; from medge.runtime.pages.drawing import new_axes\n"
        "new_axes()[0].savefig(io.BytesIO()); print(os.environ.get('MPLCONFIGDIR'))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "MPLCONFIGDIR"}
    environment |= {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path)}
    if given:
        environment["MPLCONFIGDIR"] = str(tmp_path / given)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / given if given else None)
    assert [path.name for path in tmp_path.iterdir()] == ([given] if given else [])
