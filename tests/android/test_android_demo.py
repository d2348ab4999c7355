"""The Android demo, as far as it can be built and run without Android: its core on the JVM, from the dex, and on an emulated ARM.

`android_demo/ci/prepare` fetches what builds it; without that, these tests are skipped.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import string
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scripts import load_script

from medge import Sampling, load_generator, user
from medge.runtime.golden.files import QUESTIONS

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "android_demo"
ARM = Path(os.environ.get("MEDGE_ARM", Path.home() / ".cache/medge/arm"))
LANGUAGES = ("es", "fr", "pt", "sw")  # beside English: the station's
PER_CLASS = 34  # of six classes of MedNIST: more than 200 images
# Variants of llama.cpp, and a processor that each is for. i8mm needs "max": no model of processor in qemu 7.2 has it.
EMULATED = {"v8": "cortex-a53", "v8_2_dotprod": "cortex-a76", "v8_2_dotprod_i8mm": "max"}


build = load_script(DEMO / "ci/build.py")
screens = load_script(DEMO / "ci/screens/screens.py")
needs_tools = pytest.mark.skipif(
    not (build.TOOLS / "python").is_dir(),
    reason=f"no Android tools in {build.TOOLS}: bash android_demo/ci/prepare {build.TOOLS}",
)


@pytest.fixture(scope="session")
def core_tests(core: Path, work: Path) -> Path:
    build.compile_core_tests(core, work / "core-tests")
    return work / "core-tests"


def medge(*arguments: str | Path, phone_runtime: bool = False) -> str:
    """Run the command line and give what it prints.

    With the phone's version of ONNX Runtime, where the two must agree in the last digits.
    """
    environment = dict(os.environ)
    if phone_runtime:
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(build.TOOLS / "python"), environment.get("PYTHONPATH")])
        )
    command = [sys.executable, "-m", "medge", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def real_images(shared: Path, work: Path) -> Path:
    folder = work / "images"
    counts: dict[str, int] = {}
    with tarfile.open(shared / "mednist/test.tar") as archive:
        for member in archive:
            label = Path(member.name).parent.name
            if member.isfile() and counts.get(label, 0) < PER_CLASS:
                counts[label] = counts.get(label, 0) + 1
                target = folder / label / Path(member.name).name
                target.parent.mkdir(parents=True, exist_ok=True)
                stream = archive.extractfile(member)
                assert stream is not None
                target.write_bytes(stream.read())
    return folder


@pytest.fixture(scope="session")
def dicoms(pydicom_files: Path, work: Path) -> Path:
    """DICOM files of both of pydicom's packages, by name: some broken on purpose, most of syntaxes that the core refuses."""
    import pydicom

    folder = work / "dicoms"
    folder.mkdir()
    more = Path(pydicom.__file__).parents[1] / "data_store/data"
    for source in [*pydicom_files.rglob("*.dcm"), *more.rglob("*.dcm")]:
        if not (folder / source.name).exists():
            shutil.copy(source, folder / source.name)
    return folder


@pytest.fixture(scope="session")
def texts(shared: Path, work: Path) -> Path:
    """Clinicians' questions, one a line, for the tokenizers."""
    questions = [item["question"] for item in json.loads((shared / "vqa_rad/qa.json").read_text())]
    path = work / "texts.txt"
    path.write_text(
        "\n".join(dict.fromkeys(" ".join(question.split()) for question in questions[:900])), encoding="utf-8"
    )
    return path


@pytest.fixture(scope="session")
def encoder_properties(bundle: Path, real_images: Path, dicoms: Path, texts: Path, work: Path) -> list[str]:
    """The encoder's golden files, as system properties of the Kotlin tests."""
    probe, golden = work / "probe.safetensors", work / "golden"
    medge("probe", "fit", bundle, real_images, "--out", probe, phone_runtime=True)
    medge(
        "golden", bundle, "--out", golden, "--images", real_images, "--images", dicoms, "--most", 1000, "--texts", texts,
        "--probe", probe, phone_runtime=True,
    )  # fmt: skip
    listed = work / "dicoms.txt"
    listed.write_text("\n".join(str(path) for path in sorted(dicoms.glob("*.dcm"))))
    return [f"-Dmedge.golden={golden}", f"-Dmedge.probe={probe}", f"-Dmedge.dicoms={listed}"]


@pytest.fixture(scope="session")
def two_images(real_images: Path, work: Path) -> Path:
    folder = work / "two"
    folder.mkdir()
    for label in ("CXR", "HeadCT"):
        source = sorted((real_images / label).iterdir())[0]
        shutil.copy(source, folder / f"{label}{source.suffix}")
    return folder


@pytest.fixture(scope="session")
def answers(reader: Path, two_images: Path, work: Path) -> str:
    """Answers of the real 270M, as a system property."""
    medge("golden", reader, "--out", work / "answers", "--images", two_images)
    return f"-Dmedge.answers={work / 'answers'}"


@pytest.fixture(scope="session")
def merged_answers(reader_bundles: Callable[[str], Path], two_images: Path, work: Path) -> str:
    """The same model with its vision tower in ONNX, patches merged."""
    bundle = reader_bundles("language=f16,projector=fast")
    medge("golden", bundle, "--out", work / "merged", "--images", two_images, phone_runtime=True)
    return f"-Dmedge.merged={work / 'merged'}"


@pytest.fixture(scope="session")
def onnxruntime(work: Path) -> str:
    build.host_onnxruntime(work / "onnxruntime")
    return f"-Donnxruntime.native.path={work / 'onnxruntime'}"


@pytest.fixture(scope="session")
def host_llama(llama_cpp_source: Path, work: Path) -> str:
    import llama_cpp

    library = build.host_jni(work / "jni", llama_cpp_source, Path(llama_cpp.__file__).parent / "lib")
    return f"-Dmedge.llama={library}"


EVERYTHING = "-Dmedge.everything=true"  # a Kotlin test that would be skipped fails


def kotlin_tests(tests: Path) -> list[str]:
    return sorted(path.stem for path in (tests / "org/medge/core").glob("*Test.class"))


@pytest.fixture(scope="session")
def phones(bundle: Path, work: Path) -> str:
    """Asks the Kotlin planner about a bundle; benchmarks/android.py asks about more."""
    path = work / "phones.json"
    path.write_text(json.dumps({"gigabytes": [3, 4], "manifests": [(bundle / "manifest.json").read_text()]}))
    return f"-Dmedge.phones={path}"


@pytest.fixture(scope="session")
def signed(work: Path) -> str:
    """Bundles and trust folders, and what the core shall say of each pair; `tests/runtime/trust` asks Python the same."""
    from signed_cases import write_cases

    write_cases(work / "signed")
    return f"-Dmedge.signed={work / 'signed'}"


@pytest.fixture(scope="session")
def properties(
    encoder_properties: list[str], answers: str, merged_answers: str, small_answers: Path, onnxruntime: str,
    host_llama: str, phones: str, signed: str,
) -> list[str]:  # fmt: skip
    small = f"-Dmedge.small={small_answers}"
    return [EVERYTHING, *encoder_properties, answers, merged_answers, small, onnxruntime, host_llama, phones, signed]


@needs_tools
def test_the_core_computes_what_python_computes(
    core: Path, core_tests: Path, properties: list[str], work: Path
) -> None:
    java = ["java", "-Xverify:all", f"-XX:ErrorFile={work}/crash.log"]
    report = build.junit([core, build.GSON, build.STDLIB], core_tests, properties, kotlin_tests(core_tests), java)
    found = re.search(r"OK \((\d+) tests\)", report)
    assert found is not None, report
    written = sum(path.read_text().count("@Test") for path in (DEMO / "core/src/test").rglob("*.kt"))
    assert int(found[1]) == written


@pytest.fixture(scope="session")
def assembled(core: Path, work: Path) -> Path:
    build.assemble(work / "apk", core)
    return work / "apk"


@needs_tools
def test_the_core_computes_the_same_from_the_apks_dex(
    assembled: Path, core_tests: Path, properties: list[str], work: Path
) -> None:
    translated = build.translate_back(assembled / "dex/classes.dex", work / "translated.jar")
    java = ["java", "-Xverify:all", f"-XX:ErrorFile={work}/crash.log"]
    assert "OK (" in build.junit([translated], core_tests, properties, kotlin_tests(core_tests), java)


@pytest.fixture(scope="session", params=sorted(build.VARIANTS))
def apk(request: pytest.FixtureRequest, assembled: Path, work: Path) -> tuple[str, Path]:
    return request.param, build.package(assembled, request.param, work / f"{request.param}.apk")


@needs_tools
def test_the_apk_is_signed_aligned_and_asks_for_nothing(apk: tuple[str, Path]) -> None:
    abi, path = apk
    known = build.versions()
    verified = build.run("apksigner", "verify", "--verbose", path)
    assert "Verified using v2 scheme (APK Signature Scheme v2): true" in verified
    assert "Verified using v3 scheme (APK Signature Scheme v3): true" in verified
    build.run("zipalign", "-c", "-p", "4", path)
    badging = build.run("aapt", "dump", "badging", path)
    assert f"sdkVersion:'{known['minSdk']}'" in badging
    assert f"targetSdkVersion:'{known['targetSdk']}'" in badging
    assert f"versionName='{known['versionName']}'" in badging
    assert f"native-code: '{abi}'" in badging
    assert all(f"'{language}'" in badging for language in LANGUAGES)
    assert "launchable-activity: name='org.medge.app.MainActivity'" in badging
    assert "application-debuggable" not in badging
    assert "uses-permission" not in build.run("aapt", "dump", "permissions", path)
    tree = build.run("aapt", "dump", "xmltree", path, "AndroidManifest.xml")
    providers = re.findall(r'E: provider.*\n(?:\s+A:.*\n)*?\s+A: android:name\S+="([^"]+)"', tree)
    assert providers == [".CaptureProvider"]  # and not ONNX Runtime's for usage data
    assert "org.medge.app.capture" in tree
    assert "${" not in tree
    assert re.search(r"allowBackup\S+=\(type 0x12\)0x0", tree)


@needs_tools
def test_the_apk_holds_the_native_libraries_and_no_model(apk: tuple[str, Path]) -> None:
    abi, path = apk
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    wanted = {"libonnxruntime.so", "libonnxruntime4j_jni.so"}
    wanted |= {f"lib{kind}_{v}.so" for v in build.VARIANTS[abi] for kind in ("rnllama", "medge_llama")}
    assert {Path(name).name for name in names if name.startswith("lib/")} == wanted
    assert all(name.startswith(f"lib/{abi}/") for name in names if name.endswith(".so"))
    assert not [name for name in names if name.endswith((".onnx", ".gguf", ".safetensors"))]


@needs_tools
def test_an_apk_carries_whom_it_trusts_and_no_secret(assembled: Path, tmp_path: Path) -> None:
    from signed_bundles import fingerprint, make_key, trusting

    key = make_key(tmp_path / "keys", "makers")
    trust = trusting(tmp_path / "trust", tmp_path / "keys/makers.pub").folder
    abi = "armeabi-v7a"  # the quickest
    with zipfile.ZipFile(build.package(assembled, abi, tmp_path / "trusting.apk", trust)) as archive:
        found = {name: archive.read(name) for name in archive.namelist() if name.startswith("assets/")}
    assert set(found) == {"assets/trust/trust.json", f"assets/trust/keys/{fingerprint(key)}.pub"}
    assert found["assets/trust/trust.json"] == (trust / "trust.json").read_bytes()
    with pytest.raises(build.BuildError, match="is no trust folder"):
        build.trust_files(tmp_path)
    (trust / "keys/secret.pub").write_bytes(key.path.read_bytes())
    with pytest.raises(build.BuildError, match=r"secret\.pub holds a private key"):
        build.trust_files(trust)


@needs_tools
@pytest.mark.parametrize("variant", build.VARIANTS["arm64-v8a"])
def test_our_native_library_needs_llama_cpp_alone_and_suits_large_pages(variant: str, tmp_path: Path) -> None:
    library = build.android_jni("arm64-v8a", variant, tmp_path)
    symbols = [line.split()[-1] for line in build.run("nm", "-D", "--undefined-only", library).splitlines()]
    assert symbols
    assert all(name.startswith(("llama_", "mtmd_")) for name in symbols)
    exported = {line.split()[-1] for line in build.run("nm", "-D", "--defined-only", library).splitlines()}
    source = (DEMO / "core/src/main/kotlin/org/medge/core/Native.kt").read_text()
    assert exported == {f"Java_org_medge_core_Native_{name}" for name in re.findall(r"external fun (\w+)", source)}
    aligned = [
        line.split()[-1] for line in build.run("readelf", "-lW", library).splitlines() if line.split()[:1] == ["LOAD"]
    ]
    assert set(aligned) == {"0x4000"}


def test_every_abi_of_the_kernel_table_is_built_by_gradle_too() -> None:
    cmake = (DEMO / "app/src/main/cpp/CMakeLists.txt").read_text()
    for variant in (*build.VARIANTS["arm64-v8a"], *build.VARIANTS["x86_64"]):
        assert re.search(rf"set\(variants [^)]*\b{variant}\b", cmake)
    planner = (DEMO / "core/src/main/kotlin/org/medge/core/Planner.kt").read_text()
    assert set(re.findall(r'-> "(v8\w*|x86_64)"', planner)) == {*build.VARIANTS["arm64-v8a"], *build.VARIANTS["x86_64"]}


# ARM


@pytest.fixture(scope="session")
def small_reader(llm_extra: None, two_images: Path, work: Path) -> Path:
    """A model of some hundred tokens, sure of an answer to each golden question about each image and none; said to have
    passed, for nothing about it is measured, and the phone would refuse it.

    An emulated processor would spend nearly all its time on the quarter of a million tokens of the real vocabulary.
    """
    from gemma_checkpoints import say_passed, teach, write_small_gemma
    from gemma_shapes import TEXT, VISION

    from medge.export.jobs.generator import export_medgemma
    from medge.export.jobs.generator_job import GeneratorJob

    write_small_gemma(work / "untaught", TEXT, VISION)
    export_medgemma(GeneratorJob(work / "untaught", work / "babbles", "f16", skip_parity=True))
    generator = load_generator(work / "babbles", allow_failed_parity=True, context=512)
    subjects: list[tuple[Path, ...]] = [(), *((path,) for path in sorted(two_images.iterdir()))]
    prompts = [generator.encode([user(*parts, question)]) for parts in subjects for question in QUESTIONS]
    characters = [generator.engine.tokenize(character)[0] for character in string.ascii_letters]
    [end] = generator.engine.tokenize("<end_of_turn>")
    generator.close()
    random = np.random.default_rng(0)
    drawn = [random.choice(characters, 4, replace=False).tolist() for _ in prompts]
    teach(work / "untaught", work / "taught", prompts, [[*answer, end] for answer in drawn])
    out = work / "small"
    export_medgemma(GeneratorJob(work / "taught", out, "f16", skip_parity=True))
    taught = load_generator(out, allow_failed_parity=True, context=512)
    assert [list(taught.engine.generate(prompt, Sampling(12))) for prompt in prompts] == drawn
    taught.close()
    say_passed(out)
    return out


@pytest.fixture(scope="session")
def small_answers(small_reader: Path, two_images: Path, work: Path) -> Path:
    medge("golden", small_reader, "--out", work / "tiny-answers", "--images", two_images)
    return work / "tiny-answers"


@needs_tools
@pytest.mark.emulated
@pytest.mark.parametrize("variant", EMULATED)
def test_arm_writes_the_tokens_of_this_machine(
    variant: str, small_answers: Path, core: Path, core_tests: Path, work: Path, tmp_path: Path
) -> None:
    java = ARM / "root/usr/lib/jvm/java-17-openjdk-arm64/bin/java"
    if not java.is_file():
        pytest.skip(f"no emulated machine with Java in {ARM}: bash tests/arm/prepare {ARM}")
    shim = build.emulated_llama(variant, tmp_path)
    # One thread: two would spin, waiting for each other, for minutes where other programs share the cores.
    emulator = [
        str(ARM / "root/usr/bin/qemu-aarch64-static"), "-L", str(ARM / "root"), "-E", f"LD_PRELOAD={shim}",
        "-cpu", EMULATED[variant], str(java), *build.SHORT, "-XX:ActiveProcessorCount=1",
        f"-XX:ErrorFile={tmp_path}/crash.log",
    ]  # fmt: skip
    told = [EVERYTHING, f"-Dmedge.answers={small_answers}", f"-Dmedge.llama={tmp_path}/libmedge_llama_{variant}.so"]
    assert "OK (" in build.junit([core, build.GSON, build.STDLIB], core_tests, told, ["AnswersTest"], emulator)


# The app's own activities


@pytest.fixture(scope="session")
def play(bundle: Path, small_reader: Path, small_answers: Path, two_images: Path, work: Path) -> str:
    """What is shown to the app, and what it must answer, as a system property."""
    picture = sorted(two_images.iterdir())[0]
    found = json.loads(medge("classify", bundle, picture, "--top", 6, "--json", phone_runtime=True))
    answers = json.loads((small_answers / "answers.json").read_text())
    path = work / "play.json"
    facts = {
        "encoder": str(bundle), "generator": str(small_reader), "picture": str(picture), "question": QUESTIONS[0],
        "answer": answers[0]["text"], "answerOfPicture": answers[len(QUESTIONS)]["text"],
        "scores": [[s["label"], s["softmax"], s["sigmoid"]] for s in found["results"][0]["labels"]],
    }  # fmt: skip
    path.write_text(json.dumps(facts))
    return f"-Dmedge.play={path}"


@needs_tools
@pytest.mark.skipif(not (screens.LAYOUTLIB / "made-by").is_file(), reason=f"no layoutlib in {screens.LAYOUTLIB}")
def test_the_apps_own_activities_do_what_a_person_does(
    assembled: Path, core: Path, play: str, onnxruntime: str, host_llama: str, work: Path, tmp_path: Path
) -> None:
    app = [core, assembled / "app", assembled / "constants"]
    stage = screens.compile_stage(app, work / "stage")
    shutil.copy(host_llama.partition("=")[2], tmp_path / "libmedge_llama_x86_64.so")
    report = build.java(
        *screens.JVM, "-cp", screens.class_path([stage, *app]), play, onnxruntime, f"-Djava.library.path={tmp_path}",
        f"-Djava.io.tmpdir={tmp_path}", f"-Dmedge.layoutlib={screens.LAYOUTLIB}", f"-Dmedge.res={screens.RESOURCES}",
        "org.junit.runner.JUnitCore", "org.medge.screens.AppTest",
    )  # fmt: skip
    found = re.search(r"OK \((\d+) tests\)", report)
    assert found is not None, report
    assert int(found[1]) == (DEMO / "ci/screens/java/org/medge/screens/AppTest.java").read_text().count("@Test\n")
