"""Numbers as people read them."""

from __future__ import annotations

import math


def number(value: float | None, digits: int = 3) -> str:
    """A number with a few digits that matter: "0.89", "0.99987", "9.3 × 10⁻⁶" (its spaces break no line), "1,234"."""
    if value is None:
        return "–"
    if math.isnan(value):
        return "not a number"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    size = abs(value)
    if 0.99 <= size < 1:  # what is missing to 1 says how good a cosine is
        places = min(max(math.ceil(-math.log10(1 - size) - 1e-9) + digits - 2, digits), 9)
        return f"{value:.{places}f}".replace("-", "−")
    if size < 1e-3:
        mantissa, power = f"{value:.{max(digits - 2, 0)}e}".split("e")
        # With spaces that no line ends at.
        return f"{mantissa}\u00a0×\u00a010".replace("-", "−") + str(int(power)).translate(_SUPERSCRIPT)
    places = max(digits - 1 - math.floor(math.log10(size)), 0)
    return f"{value:,.{places}f}".replace("-", "−")


_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def percent(share: float) -> str:
    """A share as "2.5%"."""
    return f"{100 * share:.3g}%".replace("-", "−")


def three(value: float | None) -> str:
    """With three decimals, as shares that stand below each other; what is unknown or no finite number is a dash."""
    # What rounds to zero has no sign, which would read as a loss.
    return f"{value:z.3f}".replace("-", "−") if value is not None and math.isfinite(value) else "–"


def span(low: float | None, high: float | None) -> str:
    """The ends of an interval: "0.800 to 0.950"."""
    return f"{three(low)} to {three(high)}"
