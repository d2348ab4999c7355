"""What medge is made of: licences, versions with known holes, bills of materials (docs/reference/supply.md)."""

from __future__ import annotations

import importlib.metadata
import re
import struct
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from scripts import load_script

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference" / "supply.md"
# The ggml whose source was read for the mends of CVE-2026-27940 and CVE-2026-33298. llama.cpp's build number is not in the
# library.
LEAST_GGML = (0, 25, 3)
# What the mends print, in the library itself.
MENDED = (b"memory size overflow while allocating ggml context", b"size overflow, cannot accumulate size")


@pytest.fixture(scope="module")
def supply() -> ModuleType:
    return load_script(ROOT / "docs" / "make_supply.py")


def test_every_licence_is_allowed_and_the_page_has_what_medge_names(supply: ModuleType) -> None:
    assert supply.refused() == []
    found = supply.closure()
    assert {"numpy", "tokenizers", "huggingface-hub"} <= found.keys()  # the last only because tokenizers needs it
    page = PAGE.read_text()
    missing = [name for extra in (None, *supply.EXTRAS) for name in supply.direct(extra) if f"| {name} |" not in page]
    assert missing == []


def test_a_licence_that_is_not_in_the_list_is_seen(supply: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(supply.ALLOWED, "WTFPL")
    assert all(line.endswith(("WTFPL", "Public Domain")) for line in supply.refused())
    assert supply.ALLOWED["Apache-2.0"]
    for said in ("GPL-3.0-only", "AGPL", "MIT-like", "Apache-1.1"):
        assert not any(re.fullmatch(how, said.lower()) for how in supply.ALLOWED.values()), said


def test_a_releases_bill_of_materials_is_valid(supply: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("cyclonedx", reason="pip install 'cyclonedx-python-lib[json-validation]'")
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    supply.write_sbom(tmp_path / "release.json")
    text = (tmp_path / "release.json").read_text()
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    assert error is None, error
    assert f"pkg:pypi/numpy@{importlib.metadata.version('numpy')}" in text


def test_versions_with_known_holes_are_refused_by_the_requirements() -> None:
    from packaging.requirements import Requirement

    holes = {"pillow": "11.2.1", "jinja2": "3.1.5", "onnx": "1.16.0", "torch": "2.5.1", "scikit-learn": "1.4.2",
             "pyarrow": "14.0.0", "transformers": "4.52.0", "llama-cpp-python": "0.2.71", "cryptography": "46.0.4"}  # fmt: skip
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    needed = [Requirement(text) for group in (project["dependencies"], *extras) for text in group]
    for name, version in holes.items():
        ranges = [requirement.specifier for requirement in needed if requirement.name.lower() == name]
        assert ranges, name
        assert not any(version in each for each in ranges), f"{name} {version} has a known hole and could be installed"


def llama_library() -> Path:
    pytest.importorskip("llama_cpp", reason="pip install 'medge[llm]'")
    import llama_cpp

    return Path(llama_cpp.__file__).parent / "lib"


def test_llama_cpp_is_no_older_than_the_mends() -> None:
    """CVE-2026-27940 and CVE-2026-33298."""
    folder = llama_library()
    from medge.runtime.device.ggml import ggml_build

    version, _ = ggml_build()
    assert tuple(map(int, re.findall(r"\d+", version)[:3])) >= LEAST_GGML
    [base] = [path for path in folder.iterdir() if re.match(r"(lib)?ggml-base\.(so|dylib|dll)$", path.name)]
    data = base.read_bytes()
    assert [text for text in MENDED if text not in data] == []


def test_llama_cpps_server_is_not_there() -> None:
    """CVE-2026-21869 is in the server that llama.cpp has beside its library."""
    assert [path.name for path in llama_library().parent.rglob("*llama-server*")] == []
    assert b"n_discard" not in b"".join(path.read_bytes() for path in llama_library().glob("lib*.so"))


def test_a_tensor_whose_size_overflows_is_refused(tmp_path: Path) -> None:
    """CVE-2026-33298 as a file, given to the library itself: 2^62 numbers of four bytes are 0 bytes to 64 bits."""
    llama_library()
    name = b"blk.0.weight"
    tensor = struct.pack("<Q", len(name)) + name + struct.pack("<IQQIQ", 2, 1 << 31, 1 << 31, 0, 0)
    path = tmp_path / "overflow.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + tensor + bytes(64))
    code = (
        "import ctypes, sys; from llama_cpp._ggml import libggml\n"
        "class P(ctypes.Structure): _fields_ = [('no_alloc', ctypes.c_bool), ('ctx', ctypes.c_void_p)]\n"
        "libggml.gguf_init_from_file.restype = ctypes.c_void_p\n"
        "libggml.gguf_init_from_file.argtypes = [ctypes.c_char_p, P]\n"
        "print(libggml.gguf_init_from_file(sys.argv[1].encode(), P(True, None)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None"
    assert "has a size in bytes >" in done.stderr
