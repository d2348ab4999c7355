"""What medge is made of: the licence list of the documentation, and a release's bill of materials (CycloneDX 1.6).

`python docs/make_supply.py` writes docs/reference/supply.md; `--sbom FILE` writes the bill of materials of this environment;
`--check` refuses a licence that is not in the list below. Everything is read from the metadata of the installed packages that
medge and its extras need, and of what those need.
"""

from __future__ import annotations

import argparse
import importlib.metadata as metadata
import re
from pathlib import Path

from packaging.requirements import Requirement

EXTRAS = ("probe", "parquet", "hdf5", "pages", "reports", "llm", "station", "trust", "kit", "export")
PAGE = Path(__file__).parent / "reference" / "supply.md"
BEGIN, END = "<!-- packages -->\n", "<!-- /packages -->"

# {licence as the list names it: how packages write it}. All of them let medge be used and passed on under its own licence.
ALLOWED = {
    "Apache-2.0": r"apache(-| software license| license)?[ -]?(license)?,? ?(version )?(2\.0)?( license)?",
    "BSD": r"(0bsd|bsd( license)?|bsd[- ][23][- ]clause( license)?|3-clause bsd license)",
    "CC0-1.0": r"cc0-1\.0",
    "CNRI-Python": r"cnri-python",
    "BSL-1.0": r"bsl-1\.0",
    "ISC": r"isc( license)?( \(iscl\))?",
    "MIT": r"mit( license)?|mit-cmu|mit-0",
    "MPL-2.0": r"mpl-2\.0|mozilla public license 2\.0 \(mpl 2\.0\)",  # file by file: nothing of it is changed here
    "PSF-2.0": r"psf-2\.0|python software foundation license",
    "WTFPL": r"wtfpl|public domain",
    "Zlib": r"zlib",
}
# Packages whose metadata says nothing that can be read, with what their licence file says.
READ_BY_HAND = {"contourpy": "BSD", "cycler": "BSD", "kiwisolver": "BSD", "matplotlib": "PSF-2.0", "pyrage": "MIT"}


def closure(extras: tuple[str, ...] = EXTRAS) -> dict[str, metadata.Distribution]:
    """{name: package} of medge, what it needs with these extras, and what that needs; what is not installed is left out."""
    found: dict[str, metadata.Distribution] = {}
    seen: set[tuple[str, tuple[str, ...]]] = set()
    waiting = [("medge", extras)]
    while waiting:
        name, wanted = waiting.pop()
        key = normal(name)
        if (key, wanted) in seen:
            continue
        seen.add((key, wanted))
        try:
            package = found.setdefault(key, metadata.distribution(name))
        except metadata.PackageNotFoundError:
            continue
        for text in package.requires or ():
            needed = Requirement(text)
            marker = needed.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in (wanted or ("",))):
                waiting.append((needed.name, tuple(sorted(needed.extras))))
    return found


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def licences(name: str, package: metadata.Distribution) -> list[str]:
    """A package's licences as `ALLOWED` names them; what is not in it, as the package writes it."""
    if name in READ_BY_HAND:
        return [READ_BY_HAND[name]]
    about = package.metadata
    classifiers = [
        text.rsplit("::", 1)[1] for text in about.get_all("Classifier") or [] if text.startswith("License ::")
    ]
    free = (about.get("License") or "").strip().splitlines()
    said = about.get("License-Expression") or " AND ".join(classifiers) or (free[0] if free else "not said")
    parts = [
        part.strip(" ()") if part.count("(") != part.count(")") else part.strip()
        for part in re.split(r" AND | OR | WITH ", said)
    ]
    named = [next((ours for ours, how in ALLOWED.items() if re.fullmatch(how, part.lower())), part) for part in parts]
    return list(dict.fromkeys(part for part in named if part != "LLVM-exception"))  # an exception only gives more leave


def refused() -> list[str]:
    """Packages with a licence that is not allowed, each with it."""
    return [
        f"{name}: {licence}"
        for name, package in sorted(closure().items()) for licence in licences(name, package) if licence not in ALLOWED
    ]  # fmt: skip


def direct(extra: str | None) -> list[str]:
    """The packages that medge names itself, for the base install or for one extra."""
    needed = [Requirement(text) for text in metadata.distribution("medge").requires or ()]
    if extra is None:
        return sorted({normal(r.name) for r in needed if r.marker is None or "extra" not in str(r.marker)})
    return sorted({normal(r.name) for r in needed if r.marker is not None and f'"{extra}"' in str(r.marker)})


def table() -> str:
    """A row a package, those of the base install first; without versions, which differ from place to place."""
    found = closure()
    rows = ["| package | needed for | licence |", "| --- | --- | --- |"]
    for extra in (None, *EXTRAS):
        for name in direct(extra):
            if name in found:
                rows.append(f"| {name} | {extra or 'everything'} | {' and '.join(licences(name, found[name]))} |")
    return "\n".join(rows) + "\n"


def write_sbom(path: Path) -> None:
    """A release's bill of materials: medge, and every package of this environment that it needs, with versions."""
    from cyclonedx.model import Property
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.license import DisjunctiveLicense
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL

    found = closure()
    parts = {
        name: Component(
            name=name, version=package.version, type=ComponentType.APPLICATION if name == "medge" else ComponentType.LIBRARY,
            bom_ref=name, purl=PackageURL("pypi", None, name, package.version),
            licenses=[DisjunctiveLicense(name=licence) for licence in licences(name, package)],
        )
        for name, package in found.items()
    }  # fmt: skip
    llama = llama_cpp_component()
    bom = Bom(components=[part for name, part in parts.items() if name != "medge"] + ([llama] if llama else []))
    bom.metadata.component = parts["medge"]
    bom.metadata.properties.add(Property(name="medge:extras", value=", ".join(EXTRAS)))
    for name, package in found.items():
        needed = {normal(Requirement(text).name) for text in package.requires or ()}
        bom.register_dependency(parts[name], [parts[other] for other in sorted(needed & parts.keys()) if other != name])
    path.write_text(JsonV1Dot6(bom).output_as_string(indent=2) + "\n")


def llama_cpp_component() -> object | None:
    """The C++ code that llama-cpp-python's wheel carries, by what its library says of itself."""
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.license import DisjunctiveLicense

    try:
        from medge.runtime.device.ggml import ggml_build
    except ModuleNotFoundError:
        return None
    version, commit = ggml_build()
    return Component(
        name="llama.cpp", version=f"ggml {version}, {commit}", type=ComponentType.LIBRARY, bom_ref="llama.cpp",
        licenses=[DisjunctiveLicense(name="MIT")],
    )  # fmt: skip


def main() -> None:
    """Write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sbom", type=Path, help="write the bill of materials of this environment to this file")
    parser.add_argument("--check", action="store_true", help="fail on a licence that is not allowed")
    arguments = parser.parse_args()
    if arguments.check:
        if found := refused():
            raise SystemExit("licences that are not allowed (docs/make_supply.py): " + "; ".join(found))
        return
    if arguments.sbom:
        write_sbom(arguments.sbom)
        return
    text = PAGE.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}{table()}{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
