"""The sections of a radiology report that is plain text, as MIMIC-CXR has them: headings in capitals with a colon, or none."""

from __future__ import annotations

import re

# {section: headings that begin it}. What stands under a heading of both belongs to the findings: it describes the film.
SECTIONS = {
    "findings": ("FINDINGS", "FINDING", "FINDINGS AND IMPRESSION", "FINDINGS/IMPRESSION", "IMPRESSION AND FINDINGS"),
    "impression": ("IMPRESSION", "IMPRESSIONS", "CONCLUSION", "CONCLUSIONS"),
}
_NAMES = {heading: section for section, headings in SECTIONS.items() for heading in headings}
# A heading of capitals at the beginning of a line: "INDICATION:", "PA AND LATERAL CHEST:". "AP CHEST, 5:54 A.M." is none, as no
# blank follows its colon; nor is a sentence that begins in capitals and goes on in small letters.
_HEADING = re.compile(r"^[ \t]*([A-Z][A-Z0-9 ,./()&'_-]*[A-Z)])[ \t]*:(?=\s|$)", re.MULTILINE)
# Headings that count wherever they stand, in any case at the beginning of a line, in capitals after a sentence.
_WORDS = "|".join(sorted(map(re.escape, _NAMES), key=len, reverse=True))
_LINE_BEGINS = re.compile(rf"^[ \t]*({_WORDS})[ \t]*(?::|$)", re.MULTILINE | re.IGNORECASE)
_INSIDE = re.compile(rf"(?<=[.?!])[ \t]+({_WORDS})[ \t]*:(?=\s)")
_FINAL = re.compile(r"^[ \t]*FINAL REPORT[ \t]*$", re.MULTILINE)
# What is written after the report: by whom, or what was added later.
_AFTER = re.compile(
    r"^[ \t]*(?:(?:FINAL )?ADDENDUM\b|END OF REPORT\b|(?:DICTATED|ELECTRONICALLY SIGNED) BY\b).*", re.MULTILINE
)


def sections_of(text: str) -> dict[str, str]:
    """{"findings", "impression"}: what stands under such headings, each on one line; a section that is not there is left out.

    Of a report with a preliminary reading before it, what follows the last "FINAL REPORT" counts. A section ends at the next
    heading of capitals. Where a section is there twice, its parts are joined.
    """
    text = text.replace("\r\n", "\n")
    for final in _FINAL.finditer(text):
        text = text[final.end() :] if text[final.end() :].strip() else text
    marks = sorted(
        {
            (found.start(), found.end(), found[1] if found.lastindex else "")
            for pattern in (_HEADING, _LINE_BEGINS, _INSIDE, _AFTER)
            for found in pattern.finditer(text)
        }
    )
    parts: dict[str, list[str]] = {}
    for place, (_, end, heading) in enumerate(marks):
        section = _NAMES.get(" ".join(heading.upper().split()))
        until = next((start for start, _, _ in marks[place + 1 :] if start >= end), len(text))
        body = " ".join(text[end:until].split())
        if section and body:
            parts.setdefault(section, []).append(body)
    return {section: " ".join(dict.fromkeys(found)) for section, found in parts.items()}
