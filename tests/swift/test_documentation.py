"""MedgeKit's documentation: every public symbol is described, DocC finds no fault."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from swift_compiler import Swift


def symbols_of(folder: Path, name: str) -> list[dict[str, Any]]:
    """A module's public symbols, as Swift's symbol graph lists them."""
    graph = json.loads((folder / f"graphs/{name}/{name}.symbols.json").read_text(encoding="utf-8"))
    symbols: list[dict[str, Any]] = graph["symbols"]
    return symbols


def missing(symbols: list[dict[str, Any]]) -> list[str]:
    """What is not described, of the public symbols that a source declares."""
    found = []
    for symbol in symbols:
        if "location" not in symbol:  # the compiler's own: a hash value, what a protocol gives
            continue
        path = ".".join(symbol["pathComponents"])
        comment = "\n".join(line["text"] for line in symbol.get("docComment", {"lines": []})["lines"])
        signature = symbol.get("functionSignature", {})
        parameters = [one.get("internalName", one["name"]) for one in signature.get("parameters", [])]
        wanted = {rf"^- Parameter {name}:|^ +- {name}:": name for name in parameters}
        returned = "".join(part["spelling"] for part in signature.get("returns", []))
        if returned not in ("", "()", "Void") and symbol["kind"]["identifier"] != "swift.init":
            wanted["^- Returns:"] = "what it returns"
        if any(part["spelling"] in ("throws", "rethrows") for part in symbol["declarationFragments"]):
            wanted["^- Throws:"] = "what it throws"
        if not re.match(r"[^-\s]", comment):  # nothing, or nothing but parameters
            found.append(path)
        found += [
            f"{path}: {what}" for pattern, what in wanted.items() if not re.search(pattern, comment, re.MULTILINE)
        ]
    return sorted(found)


def test_every_public_symbol_is_described(modules: Path) -> None:
    symbols = symbols_of(modules, "MedgeKit")
    kinds = {symbol["kind"]["identifier"].removeprefix("swift.") for symbol in symbols if "location" in symbol}
    assert kinds == {"class", "struct", "enum", "enum.case", "property", "init", "method", "type.method"}
    assert not missing(symbols)


def test_what_is_not_described_is_named(swift: Swift, tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "Half.swift").write_text(
        """
        /// Is described.
        public struct Half {
            public let bare: Int
            /// Describe nothing else.
            ///
            /// - Parameter first: described.
            public func part(_ first: Int, by second: Int) throws -> Int { first + second }
            /// Describe all.
            ///
            /// - Parameters:
            ///   - first: described.
            ///   - second: described.
            /// - Returns: their sum.
            /// - Throws: never.
            public func whole(_ first: Int, second: Int) throws -> Int { first + second }
            /// Give nothing back.
            public func quiet() {}
            func inside() {}
        }
        public enum Bare { case one }
        """
    )
    swift.library(tmp_path, "Half", sources)
    wanted = ["second", "what it returns", "what it throws"]
    assert missing(symbols_of(tmp_path, "Half")) == [
        "Bare",
        "Bare.one",
        "Half.bare",
        *(f"Half.part(_:by:): {what}" for what in wanted),
    ]


def test_docc_finds_no_fault(swift: Swift, modules: Path, tmp_path: Path) -> None:
    """Links that lead nowhere, parameters that are not there, topics that are empty."""
    shutil.copytree(modules / "MedgeKit", tmp_path / "MedgeKit")
    shutil.copytree(modules / "graphs/MedgeKit", tmp_path / "graphs")
    done = swift.run(
        tmp_path, "docc", "convert", "MedgeKit/MedgeKit.docc", "--additional-symbol-graph-dir", "graphs",
        "--fallback-display-name", "MedgeKit", "--fallback-bundle-identifier", "MedgeKit", "--output-path", "site",
        "--warnings-as-errors",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
    page = json.loads((tmp_path / "site/data/documentation/medgekit.json").read_text(encoding="utf-8"))
    listed = {link for section in page["topicSections"] for link in section["identifiers"]}
    assert "doc://MedgeKit/documentation/MedgeKit/Classifier" in listed
    assert not [section for section in page["topicSections"] if section.get("generated")], "a type is under no topic"
