"""What tests do with the page that classifies in a browser, and what they read from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import medge


def open_page(browser: Any, address: str) -> Any:
    page = browser.new_context().new_page()
    page.set_default_timeout(60_000)
    page.goto(address)
    return page


def ready(page: Any) -> None:
    page.wait_for_function("document.getElementById('status').textContent.startsWith('Ready')")


def with_and_without_network(page: Any) -> Iterator[None]:
    """The page when it is ready, then again without a network, from what it has kept."""
    ready(page)
    yield
    page.wait_for_function("document.documentElement.dataset.offline === 'ready'")
    page.context.set_offline(True)
    page.reload()
    ready(page)
    yield


def scores(page: Any, file: Path) -> dict[str, dict[str, float]]:
    """Give the page a file, and read the table that it shows."""
    give(page, file)
    return table(page.locator(".result"))


def give(page: Any, *files: Path) -> str:
    """Give the page files, and wait for all of their results: what it says at the end."""
    page.evaluate("document.getElementById('status').textContent = ''")
    page.set_input_files("#file", files)
    return done(page)


def done(page: Any) -> str:
    page.wait_for_function("document.getElementById('status').textContent.startsWith('Done')")
    return str(page.text_content("#status"))


def table(result: Any) -> dict[str, dict[str, float]]:
    rows = result.locator("tbody tr").evaluate_all("rows => rows.map(row => ({...row.dataset}))")
    return {row["label"]: {key: float(row[key]) for key in ("cosine", "softmax", "sigmoid")} for row in rows}


def agrees(found: dict[str, dict[str, float]], expected: medge.Classification, bound: float) -> bool:
    assert set(found) == set(expected.labels)
    assert max(found, key=lambda label: found[label]["cosine"]) == expected.best
    softmax, sigmoid = ([found[label][kind] for label in expected.labels] for kind in ("softmax", "sigmoid"))
    return np.allclose(softmax, expected.softmax, 0, bound) and np.allclose(sigmoid, expected.sigmoid, 0, bound)


def dicom(name: str) -> Path:
    from pydicom.data import get_testdata_file

    path = get_testdata_file(name)
    if path is None:
        pytest.skip(f"pydicom's {name} is not installed: pip install pydicom-data")
    return Path(str(path))
