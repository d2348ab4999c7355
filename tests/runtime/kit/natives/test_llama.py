"""How llama.cpp is built for another machine, without building it: the compiler's words, the variants, the wheel."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

from medge.runtime.errors import KitError
from medge.runtime.kit.natives import TARGETS, install_wheels, llama, llama_wheel, target_named


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("-march=armv8-a", "-mcpu=generic+v8a"),
        ("-march=armv8.2-a+dotprod+fp16", "-mcpu=generic+v8_2a+dotprod+fullfp16"),
        ("-march=armv8.6-a+dotprod+fp16+sve+i8mm", "-mcpu=generic+v8_6a+dotprod+fullfp16+sve+i8mm"),
        ("-march=native", "-march=native"),
        ('-DNAME="a b"', '-DNAME="a b"'),
    ],
)
def test_zig_is_told_arm_s_features_in_its_own_words(tmp_path: Path, word: str, said: str) -> None:
    zig = tmp_path / "a folder" / "lib" / "python3.11" / "site-packages" / "ziglang" / "zig"
    zig.parent.mkdir(parents=True)
    zig.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    zig.chmod(0o755)
    programs = llama._compilers(target_named("linux-aarch64"), tmp_path / "a folder" / "bin", tmp_path / "programs")
    done = subprocess.run([programs["C_COMPILER"], "-c", word, "x.c"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["cc", "-target", "aarch64-linux-gnu.2.28", "-c", said, "x.c"]


def test_other_variants_are_left_out_and_nothing_else(tmp_path: Path) -> None:
    recipe = tmp_path / "CMakeLists.txt"
    recipe.write_text(
        "function(ggml_add_cpu_backend_variant tag_name)\nendfunction()\n"
        "  ggml_add_cpu_backend_variant(x64)\n  ggml_add_cpu_backend_variant(haswell   SSE42 AVX)\n"
        "    ggml_add_cpu_backend_variant(ivybridge SSE42 AVX F16C)\n"
    )
    llama._leave_out(recipe, ["haswell", "x64"])
    assert recipe.read_text().splitlines() == [
        "function(ggml_add_cpu_backend_variant tag_name)", "endfunction()", "  ggml_add_cpu_backend_variant(x64)",
        "  ggml_add_cpu_backend_variant(haswell   SSE42 AVX)", "    # left out: ivybridge",
    ]  # fmt: skip
    recipe.write_text("nothing of the kind\n")
    with pytest.raises(KitError, match="has no list of CPU variants"):
        llama._leave_out(recipe, ["x64"])


@pytest.mark.parametrize("needs", [b"\0GLIBC_2.34\0", b"\0libgomp.so.1\0", b"\0libstdc++.so.6\0"])
def test_a_library_that_needs_more_than_the_wheel_says_is_refused(tmp_path: Path, needs: bytes) -> None:
    library = tmp_path / "libllama.so"
    library.write_bytes(b"\x7fELF\0GLIBC_2.2.5\0GLIBC_2.28\0libc.so.6\0libggml.so\0")
    llama._check({library.name: library})
    library.write_bytes(library.read_bytes() + needs)
    with pytest.raises(KitError, match=r"libllama\.so needs"):
        llama._check({library.name: library})


def test_the_wheel_is_the_same_each_time_and_installs(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name, content in {
        "PKG-INFO": "Metadata-Version: 2.1\nName: llama_cpp_python\nVersion: 0.3.36\n", "LICENSE.md": "MIT",
        "vendor/llama.cpp/LICENSE": "MIT", "llama_cpp/__init__.py": "from .llama_cpp import *\n",
        "llama_cpp/llama_cpp.py": "", "llama_cpp/lib/leftover.so": "of another build",
    }.items():  # fmt: skip
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(content)
    library = tmp_path / "libllama.so"
    library.write_bytes(b"\x7fELF")
    target = target_named("linux-aarch64")
    wheels = [llama._wheel_file(target, tmp_path / place) for place in ("one", "two")]
    for wheel in wheels:
        llama._write_wheel(wheel, llama._members(source, {"libllama.so": library}))
    assert wheels[0].read_bytes() == wheels[1].read_bytes()
    with zipfile.ZipFile(wheels[0]) as archive:
        assert archive.read("llama_cpp/__init__.py").endswith(b"import *\n\nfrom . import _quietly\n")
        assert [name for name in archive.namelist() if name.endswith(".so")] == ["llama_cpp/lib/libllama.so"]
    install_wheels(wheels[:1], tmp_path / "packages")
    about = tmp_path / "packages" / f"llama_cpp_python-{llama.WHEEL_VERSION}.dist-info"
    assert f"\nVersion: {llama.WHEEL_VERSION}\n" in (about / "METADATA").read_text()


@pytest.mark.parametrize("target", TARGETS)
def test_a_wheel_that_was_not_built_is_a_sentence(tmp_path: Path, target: str) -> None:
    with pytest.raises(KitError, match=f"has not been built for {target}: run `make wheels`"):
        llama_wheel(target, tmp_path)
