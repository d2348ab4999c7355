"""The page of a parity report."""

from pathlib import Path


def test_the_page_is_self_contained(bundle: Path) -> None:
    page = (bundle / "parity.html").read_text()
    assert page.count("<svg") == 4  # two towers, scores, size and time
    assert "http" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    ).replace("https://matplotlib.org", "")
    assert "<script" not in page
