"""The sections of a radiology report that is plain text, as MIMIC-CXR has them: headings in capitals with a colon, or none."""

from __future__ import annotations

import re

# {section: headings that begin it}. What stands under a heading of both belongs to the findings: it describes the film.
SECTIONS = {
    "findings": ("FINDINGS", "FINDING", "FINDINGS AND IMPRESSION", "FINDINGS/IMPRESSION", "IMPRESSION AND FINDINGS"),
    "impression": ("IMPRESSION", "IMPRESSIONS", "CONCLUSION", "CONCLUSIONS"),
}
_NAMES = {heading: section for section, headings in SECTIONS.items() for heading in headings}
# Headings that end a section. Others stay in it: some findings have headings of their own, "LUNGS:" and "HEART:".
_OTHERS = (
    r"EXAM(?:INATION)?|STUDY|VIEWS?|TECHNIQUE|PROCEDURE|COMPARISONS?|INDICATIONS?|HISTORY|CLINICAL [A-Z ]+|REASON FOR [A-Z ]+|"
    r"RECOMMENDATIONS?|RECOMMENDATION\(S\)|NOTIFICATIONS?|WET READ|PRELIMINARY REPORT|DATE|NOTE|ATTENDING [A-Z ]+"
)
_ENDS = re.compile(rf"^[ \t]*(?:{_OTHERS})[ \t]*:(?=\s|$)", re.MULTILINE)
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
    heading that begins or ends one. Where a section is there twice, its parts are joined.
    """
    text = text.replace("\r\n", "\n")
    text = next((part for part in reversed(_FINAL.split(text)) if part.strip()), "")
    marks = sorted(
        {
            (found.start(), found.end(), found[1] if found.lastindex else "")
            for pattern in (_ENDS, _LINE_BEGINS, _INSIDE, _AFTER)
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
