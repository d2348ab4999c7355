"""Build and test the Android demo without Gradle: the steps of its build as functions, and an APK from the command line.

    bash android_demo/ci/prepare ~/.cache/medge/android
    python android_demo/ci/build.py --out medge-arm64-v8a.apk --abi arm64-v8a

Versions come from gradle/libs.versions.toml, sources from the same folders that Gradle reads, so that the two builds can't drift.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import tomllib
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

DEMO = Path(__file__).resolve().parents[1]
TOOLS = Path(os.environ.get("MEDGE_ANDROID", Path.home() / ".cache/medge/android"))
FRAMEWORK = Path("/usr/share/android-framework-res/framework-res.apk")
VARIANTS = {
    "arm64-v8a": ("v8", "v8_2_dotprod", "v8_2_dotprod_i8mm"),
    "x86_64": ("x86_64",),
    "armeabi-v7a": (),  # llama.rn ships none: the app then says that it has no language model
}
TRIPLES = {"arm64-v8a": "aarch64-linux-android", "x86_64": "x86_64-linux-android"}


class BuildError(Exception):
    """A step failed; the message is what its tool had to say."""


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a tool and give its output.

    Raises:
        BuildError: it ended with another code than 0.
    """
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=cwd, check=False)
    if done.returncode != 0:
        raise BuildError(f"{command[0]} failed:\n{done.stdout[-6000:]}{done.stderr[-6000:]}")
    return done.stdout


def versions() -> dict[str, str]:
    """The version catalog's [versions]."""
    return tomllib.loads((DEMO / "gradle/libs.versions.toml").read_text())["versions"]


def class_path(*parts: Path) -> str:
    return os.pathsep.join(map(str, parts))


def java_home() -> Path:
    """The JDK that javac belongs to: its headers have JNI's."""
    return Path(shutil.which("javac") or "").resolve().parents[1]


KEPT, MOST_KEPT = TOOLS / "made", 24


def kept(out: Path, make: Callable[[], object], *parts: str | Path) -> None:
    """Let `make` write `out`, a file or a folder; what it once made of the same parts, for whichever clone, is copied instead.

    Args:
        out: is replaced.
        make: writes it.
        parts: words, files and folders that decide what is made; of a folder, the names and contents of its files.
    """
    digest = hashlib.sha256((java_home() / "release").read_bytes() + Path(__file__).read_bytes())
    for part in parts:
        if isinstance(part, str):
            digest.update(f"{part}\0".encode())
            continue
        for path in sorted(part.rglob("*")) if part.is_dir() else [part]:
            if path.is_file():
                digest.update(f"{path.relative_to(part)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    _remove(out)
    place = KEPT / digest.hexdigest()
    if place.exists():
        os.utime(place)
        _copy(place, out)
        return
    make()
    KEPT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=KEPT, prefix=".making-") as scratch:
        made = Path(scratch) / place.name
        _copy(out, made)
        if not place.exists():  # another process may have made the same
            made.rename(place)
    found = sorted((path for path in KEPT.iterdir() if path.name[0] != "."), key=lambda path: path.stat().st_mtime)
    for old in found[:-MOST_KEPT]:
        _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _copy(source: Path, out: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, out)
    else:
        shutil.copyfile(source, out)


# For programs that end within a minute: optimising their own code, and a collector beside it, takes as long again.
SHORT = ("-Xshare:auto", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")


def java(*arguments: str | Path) -> str:
    return run("java", *SHORT, *arguments)


STDLIB = TOOLS / "kotlin/lib/kotlin-stdlib.jar"
ORT = TOOLS / "aar/classes.jar"
GSON = TOOLS / "gson.jar"
JUNIT = (TOOLS / "junit4.jar", TOOLS / "hamcrest-core.jar")
ANDROID = TOOLS / "android.jar"
PATCHELF = TOOLS / "patchelf/bin/patchelf"


def compile_kotlin(
    sources: Path, out: Path, classes: Sequence[Path], *, jdk: bool = False, friends: Path | None = None
) -> None:
    """Kotlin sources to classes for the catalog's jvmTarget; a warning is an error. `friends` may be seen from inside."""
    target, path = versions()["jvmTarget"], class_path(*classes)
    arguments: list[str | Path] = ["-jvm-target", target, "-Werror", "-cp", path, "-d", out]
    if not jdk:
        arguments.append("-no-jdk")
    if friends is not None:
        arguments.append(f"-Xfriend-paths={friends}")
    files = sorted(str(path) for path in sources.rglob("*.kt"))
    compiler = ["-cp", f"{TOOLS}/kotlin/lib/*", "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"]
    decides = [
        f"kotlin {target}, jdk {jdk}, friends {friends is not None}",
        TOOLS / "kotlin/build.txt",
        sources,
        *classes,
    ]
    kept(out, lambda: java(*compiler, *arguments, *files), *decides)


def compile_core(out: Path) -> None:
    """The core, against Android's own classes: what isn't in API 23 can't slip in."""
    compile_kotlin(DEMO / "core/src/main/kotlin", out, (ANDROID, ORT, GSON))


def compile_core_tests(core: Path, out: Path) -> None:
    compile_kotlin(DEMO / "core/src/test/kotlin", out, (core, ORT, GSON, *JUNIT), jdk=True, friends=core)


def junit(
    classes: Sequence[Path],
    tests: Path,
    properties: Sequence[str],
    names: Sequence[str],
    java: Sequence[str] = ("java",),
) -> str:
    """Run test classes of the core by name, on this machine's JVM or another, and give JUnit's report.

    Raises:
        BuildError: a test failed.
    """
    path = class_path(*classes, tests, ORT, *JUNIT)
    with tempfile.TemporaryDirectory() as scratch:  # Java deletes no folder that holds something
        return run(
            *java, "-cp", path, f"-Djava.io.tmpdir={scratch}", *properties, "org.junit.runner.JUnitCore",
            *(f"org.medge.core.{name}" for name in names),
        )  # fmt: skip


def host_onnxruntime(out: Path) -> None:
    """ONNX Runtime for the JVM of this machine, from Android's package and the desktop library beside it.

    The x86_64 JNI library is Android's: its references to bionic's symbol versions are cut off, and NNAPI's entry point, which
    the desktop library has not, is given by a stub.
    """
    out.mkdir(parents=True, exist_ok=True)
    shutil.copy(TOOLS / "onnxruntime/Plugins/Linux/x64/libonnxruntime.so", out / "libonnxruntime.so")
    jni = out / "libonnxruntime4j_jni.so"
    shutil.copy(TOOLS / "aar/jni/x86_64/libonnxruntime4j_jni.so", jni)
    stub = out / "stub.c"
    stub.write_text(
        '#include "onnxruntime_c_api.h"\n'
        "OrtStatus *OrtSessionOptionsAppendExecutionProvider_Nnapi(OrtSessionOptions *options, uint32_t flags) {\n"
        '    return OrtGetApiBase()->GetApi(ORT_API_VERSION)->CreateStatus(ORT_NOT_IMPLEMENTED, "no NNAPI here");\n'
        "}\n"
    )
    run("cc", "-shared", "-fPIC", f"-I{TOOLS}/aar/headers", stub, f"-L{out}", "-lonnxruntime", "-Wl,-rpath,$ORIGIN", "-o",
        out / "libstub.so")  # fmt: skip
    run(PATCHELF, "--add-needed", "libstub.so", jni)
    retarget(jni)


def retarget(library: Path) -> None:
    """Make a library of Android's look for glibc: names of libraries, and no symbol versions, which name bionic's."""
    needed = run(PATCHELF, "--print-needed", library).split()
    for name, ours in (("libc.so", "libc.so.6"), ("libm.so", "libm.so.6"), ("libdl.so", "libdl.so.2")):
        if name in needed:
            run(PATCHELF, "--replace-needed", name, ours, library)
    for name in ("liblog.so", "libandroid.so"):
        if name in needed:
            run(PATCHELF, "--remove-needed", name, library)
    run(PATCHELF, "--set-rpath", "$ORIGIN", library)
    data = bytearray(library.read_bytes())
    (offset,) = struct.unpack_from("<Q", data, 32)  # program headers
    size, count = struct.unpack_from("<HH", data, 54)
    for index in range(count):
        kind, _, at, _, _, length = struct.unpack_from("<IIQQQQ", data, offset + index * size)
        if kind != 2:  # PT_DYNAMIC
            continue
        for entry in range(at, at + length, 16):
            (tag,) = struct.unpack_from("<Q", data, entry)
            if tag in (0x6FFFFFF0, 0x6FFFFFFE, 0x6FFFFFFF):  # DT_VERSYM, DT_VERNEED, DT_VERNEEDNUM
                struct.pack_into("<Q", data, entry, 0x6000000D)  # DT_LOOS: a tag that loaders pass over
    library.write_bytes(data)


def emulated_llama(variant: str, out: Path) -> Path:
    """An arm64 variant of llama.cpp, its JNI library and a shim, so that they load on an emulated Debian; gives the shim."""
    jni = android_jni("arm64-v8a", variant, out)
    llama = out / f"librnllama_{variant}.so"
    shutil.copy(TOOLS / "llama.rn/android/src/main/jniLibs/arm64-v8a" / llama.name, llama)
    for library in (llama, jni):
        retarget(library)
    shim = out / "libshim.so"
    run(
        "clang-16", "--target=aarch64-linux-gnu", "-O1", "-fPIC", "-shared", "-nostdlib", "-ffreestanding", "-fno-builtin",
        "-nostdinc", "-fuse-ld=lld-16", f"-isystem{_clang_headers()}", DEMO / "ci/bionic_on_glibc.c", "-o", shim,
    )  # fmt: skip
    return shim


def _clang_headers() -> Path:
    return Path(run("clang-16", "-print-resource-dir").strip()) / "include"


def host_jni(out: Path, headers: Path, libraries: Path) -> Path:
    """Our JNI library for this machine, against the llama.cpp of llama-cpp-python; headers from its source."""
    source, target = DEMO / "app/src/main/cpp/medge_llama.c", out / "libmedge_llama.so"
    out.mkdir(parents=True, exist_ok=True)
    include = java_home() / "include"
    run(
        "cc", "-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden", source,
        f"-I{include}", f"-I{include}/linux", f"-I{headers}/include", f"-I{headers}/ggml/include", f"-I{headers}/tools/mtmd",
        # All that is used of mtmd is weak, which alone would not make a linker note the library.
        "-Wl,--no-as-needed", f"-L{libraries}", "-lllama", "-lmtmd", f"-Wl,-rpath,{libraries}", "-o", target,
    )  # fmt: skip
    return target


def android_jni(abi: str, variant: str, out: Path) -> Path:
    """Our JNI library for a phone, against one of llama.rn's libraries: a bare clang does, for the source uses no libc."""
    out.mkdir(parents=True, exist_ok=True)
    shim = out / "include"
    shim.mkdir(exist_ok=True)
    # Headers of llama.cpp and JNI name the type, no more.
    (shim / "stdio.h").write_text("typedef struct medge_file FILE;\n")
    target = out / f"libmedge_llama_{variant}.so"
    include, headers = java_home() / "include", TOOLS / "llama.rn/cpp"
    run(
        "clang-16", f"--target={TRIPLES[abi]}{versions()['minSdk']}", "-O2", "-fPIC", "-shared", "-ffreestanding", "-fno-builtin",
        "-nostdinc", "-nostdlib", "-fuse-ld=lld-16", "-fvisibility=hidden", "-Wall", "-Werror", "-Wno-unused-parameter",
        "-DMEDGE_LLAMA_RN", f"-I{shim}", f"-isystem{_clang_headers()}", f"-I{include}", f"-I{include}/linux", f"-I{headers}",
        f"-I{headers}/tools/mtmd", DEMO / "app/src/main/cpp/medge_llama.c",
        TOOLS / f"llama.rn/android/src/main/jniLibs/{abi}/librnllama_{variant}.so",
        "-Wl,-z,max-page-size=16384", f"-Wl,-soname,{target.name}", "-o", target,
    )  # fmt: skip
    return target


def translate_back(dex: Path, out: Path) -> Path:
    """A dex file to a jar of what it holds of ours, of Kotlin and of Gson.

    ONNX Runtime's classes are left out: their interfaces have static methods, which the translator's class files can't express.
    """
    kept(out, lambda: _translate_back(dex, out), "translated", dex)
    return out


def _translate_back(dex: Path, out: Path) -> None:
    every = out.with_suffix(".all.jar")
    done = subprocess.run(
        ["enjarify", "-f", "-o", str(every), str(dex)], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHON": "/usr/bin/python3"},
    )  # fmt: skip
    if " 0 classes had errors" not in done.stdout:
        raise BuildError(f"enjarify failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    with zipfile.ZipFile(every) as archive, zipfile.ZipFile(out, "w") as ours:
        for name in archive.namelist():
            if not name.startswith("ai/onnxruntime/"):
                ours.writestr(name, archive.read(name))


def _classes(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.class"))


def compile_app(work: Path, core: Path | None = None) -> list[Path]:
    """Resources, manifest and the app's classes into `work`; gives the folders of classes that belong to it.

    Args:
        core: compiled classes of the core, where they are there already.
    """
    work.mkdir(parents=True, exist_ok=True)
    known = versions()
    app, source = work / "app", DEMO / "app/src/main"
    if core is None:
        core = work / "core"
        compile_core(core)
    compiled, generated = work / "resources.zip", work / "gen"
    generated.mkdir(exist_ok=True)
    run("aapt2", "compile", "--dir", source / "res", "-o", compiled)
    manifest = work / "AndroidManifest.xml"
    manifest.write_text(merged_manifest())
    run(
        "aapt2", "link", "-I", FRAMEWORK, "--manifest", manifest, "--java", generated, "-o", work / "linked.apk",
        "--min-sdk-version", known["minSdk"], "--target-sdk-version", known["targetSdk"],
        "--version-code", known["versionCode"], "--version-name", known["versionName"], compiled,
    )  # fmt: skip
    constants = work / "constants"
    run("javac", "-nowarn", "--release", known["jvmTarget"], "-d", constants, *generated.rglob("*.java"))
    compile_kotlin(source / "kotlin", app, (ANDROID, core, constants, ORT, GSON))
    return [core, app, constants]


def assemble(work: Path, core: Path | None = None) -> None:
    """What all ABIs share, into `work`: `linked.apk` with resources and manifest, and `dex/`; of `core`, `compile_app` says."""
    to_dex([*compile_app(work, core), ORT, GSON, STDLIB], work / "dex", versions()["minSdk"])


def to_dex(classes: Sequence[Path], out: Path, least_api: str) -> None:
    """Folders of classes and jars to a folder of dex files for this level of Android's API and later ones."""

    def make() -> None:
        out.mkdir()
        java(
            "-cp", TOOLS / "bundletool.jar", "com.android.tools.r8.D8", "--release", "--lib", ANDROID, "--min-api", least_api,
            "--output", out, *(path for part in classes for path in (_classes(part) if part.is_dir() else [part])),
        )  # fmt: skip

    kept(out, make, f"dex {least_api}", ANDROID, TOOLS / "bundletool.jar", *classes)


def package(work: Path, abi: str, out: Path, trust: Path | None = None) -> Path:
    """An APK for one ABI of what `assemble` has made: native libraries, alignment, a debug key's signature.

    Args:
        trust: a trust folder (`medge keys trust`): the app then imports by its policy; without one it looks at no signature.
    """
    unaligned, aligned = work / f"{abi}.unaligned.apk", work / f"{abi}.aligned.apk"
    shutil.copy(work / "linked.apk", unaligned)
    with zipfile.ZipFile(unaligned, "a", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((work / "dex").glob("*.dex")):
            archive.write(path, path.name)
        for path in native_libraries(abi, work / "native" / abi):
            # Compressed: an APK is carried on a stick, and installing unpacks it (extractNativeLibs in the manifest).
            archive.write(path, f"lib/{abi}/{path.name}")
        for path in trust_files(trust) if trust else ():
            archive.write(path, f"assets/trust/{path.relative_to(trust).as_posix()}")
    run("zipalign", "-f", "-p", "4", unaligned, aligned)
    passwords = ["--ks-pass", "pass:android", "--key-pass", "pass:android"]
    run("apksigner", "sign", "--ks", debug_key(), *passwords, "--out", out, aligned)
    return out


def trust_files(folder: Path) -> list[Path]:
    """What an app needs of a trust folder, which is public.

    Raises:
        BuildError: it is none, or holds a private key.
    """
    found = [path for path in (folder / "trust.json", folder / "revoked.json") if path.is_file()]
    found += sorted(path for path in (folder / "keys").glob("*") if path.suffix in (".pub", ".rotation"))
    if not (folder / "trust.json").is_file():
        raise BuildError(f"{folder} is no trust folder: make one with 'medge keys trust'")
    if secret := next((path for path in found if b"PRIVATE KEY" in path.read_bytes()), None):
        raise BuildError(f"{secret} holds a private key")
    return found


def native_libraries(abi: str, work: Path) -> list[Path]:
    """ONNX Runtime, and for each variant llama.cpp with our JNI library."""
    found = [TOOLS / f"aar/jni/{abi}/{name}" for name in ("libonnxruntime.so", "libonnxruntime4j_jni.so")]
    for variant in VARIANTS[abi]:
        found.append(TOOLS / f"llama.rn/android/src/main/jniLibs/{abi}/librnllama_{variant}.so")
        found.append(android_jni(abi, variant, work))
    return found


def merged_manifest() -> str:
    """The app's manifest as Gradle merges it: ONNX Runtime's own adds nothing here, and its telemetry provider is removed.

    Elements marked tools:node="remove" exist to drop what a library brings, and go themselves.
    """
    android, tools = "http://schemas.android.com/apk/res/android", "http://schemas.android.com/tools"
    ElementTree.register_namespace("android", android)
    tree = ElementTree.parse(DEMO / "app/src/main/AndroidManifest.xml")
    root = tree.getroot()
    library = ElementTree.parse(TOOLS / "aar/AndroidManifest.xml").getroot()
    application, brought_application = root.find("application"), library.find("application")
    if application is None or brought_application is None:
        raise BuildError("a manifest without an application")
    for part, brought in ((root, library), (application, brought_application)):
        removed = {(e.tag, e.get(f"{{{android}}}name")) for e in part if e.get(f"{{{tools}}}node") == "remove"}
        for element in [e for e in part if e.get(f"{{{tools}}}node") == "remove"]:
            part.remove(element)
        wanted = {"uses-permission", "provider", "receiver", "service", "activity", "meta-data"}
        part.extend(e for e in brought if e.tag in wanted and (e.tag, e.get(f"{{{android}}}name")) not in removed)
    application.set(f"{{{android}}}extractNativeLibs", "true")  # what Gradle makes of useLegacyPackaging
    gradle = (DEMO / "app/build.gradle.kts").read_text()
    root.set("package", _setting(gradle, "namespace"))
    text = ElementTree.tostring(root, encoding="unicode", xml_declaration=True)
    return text.replace("${applicationId}", _setting(gradle, "applicationId"))


def _setting(gradle: str, name: str) -> str:
    found = re.search(rf'\b{name} = "([^"]+)"', gradle)
    if found is None:
        raise BuildError(f"app/build.gradle.kts sets no {name}")
    return found[1]


def debug_key() -> Path:
    """A key of this machine's own, as Android's tools make one: for installing by hand, not for a store."""
    key = TOOLS / "debug.keystore"
    if not key.is_file():
        run(
            "keytool", "-genkeypair", "-keystore", key, "-storepass", "android", "-keypass", "android", "-alias", "debug",
            "-keyalg", "RSA", "-keysize", "2048", "-validity", "10000", "-dname", "CN=Android Debug,O=Android,C=US",
        )  # fmt: skip
    return key


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--abi", choices=sorted(VARIANTS), default="arm64-v8a")
    parser.add_argument("--trust", type=Path, help="a trust folder: whose bundles the app imports")
    parser.add_argument("--work", type=Path, default=Path("android-build"))
    arguments = parser.parse_args()
    if not ANDROID.is_file():
        sys.exit(f"{ANDROID} is missing: bash android_demo/ci/prepare {TOOLS}")
    try:
        assemble(arguments.work)
        apk = package(arguments.work, arguments.abi, arguments.out, arguments.trust)
    except BuildError as error:
        sys.exit(str(error))
    print(f"{apk}: {apk.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
