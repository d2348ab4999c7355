"""The cases that other languages judge as well: Python refuses the same ones."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
from signed_cases import write_cases

from medge.runtime.errors import TrustError, TrustWarning
from medge.runtime.trust.trust import Trust
from medge.runtime.trust.verifying import verify_bundle

# How the same is said here.
SAID = {
    "UNSIGNED": "is not signed, and this device uses signed bundles",
    "SIGNATURE_DAMAGED": "model.sig (is no signature|signs something|is a signature, but)|a single file's signature",
    "SIGNATURE_FORGED": "is not signed by the key that it names",
    "KEY_UNKNOWN": "which this device does not trust",
    "KEY_REVOKED": "which was revoked",
    "NOT_WHAT_WAS_SIGNED": "is not what was signed",
    "TRUST_DAMAGED": r"(trust\.json|revoked\.json|\.pub|\.rotation)",
}


def test_python_refuses_what_the_phone_refuses(tmp_path: Path) -> None:
    write_cases(tmp_path)
    cases = json.loads((tmp_path / "cases.json").read_text())
    assert len(cases) > 150
    assert {case["problem"] for case in cases} == {None, *SAID}
    for case in cases:
        folder, trust = Path(case["bundle"]), Path(case["trust"])
        if case["problem"] is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", TrustWarning)
                verify_bundle(folder, Trust.open(trust))
            continue
        with pytest.raises(TrustError, match=SAID[case["problem"]]):
            verify_bundle(folder, Trust.open(trust))
        if case["problem"] == "TRUST_DAMAGED":
            with pytest.raises(TrustError):
                Trust.open(trust)
