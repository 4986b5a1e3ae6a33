"""95% intervals of what a run measured, from counts alone."""

import math

Interval = tuple[float, float]
Z = 1.959963984540054  # two-sided 95% of the normal distribution


def wilson(percent: float | None, count: float | None) -> Interval | None:
    """Wilson's score interval of a proportion, in percent.

    E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209. It holds for few samples, and for 0% and 100%,
    where the usual one has no width.

    Args:
        percent: The proportion that was found; None was not measured.
        count: Of how many independent samples; fewer than all, and not whole, where samples depend on each other.

    Returns:
        Lower and upper end; None without a proportion or without samples.
    """
    if percent is None or not count:
        return None
    share, weight = min(max(percent / 100, 0.0), 1.0), Z**2 / count
    middle = (share + weight / 2) / (1 + weight)
    half = Z * math.sqrt(share * (1 - share) / count + weight / (4 * count)) / (1 + weight)
    return _rounded(max(0.0, middle - half), min(1.0, middle + half))


def paired(lost: int | None, gained: int | None, count: int | None) -> Interval | None:
    """Interval of a loss in points between two models that were asked about the same samples.

    Agresti and Min, Stat. Med. 24 (2005) 729: Wald's, with half a sample added to each of the four cells.

    Args:
        lost: Samples that the first model got right and the second wrong.
        gained: The other way round.
        count: All samples.

    Returns:
        Lower and upper end; None where there are no samples.
    """
    if lost is None or gained is None or not count:
        return None
    total = count + 2
    down, up = (lost + 0.5) / total, (gained + 0.5) / total
    half = Z * math.sqrt((down + up - (down - up) ** 2) / total)
    return _rounded(down - up - half, down - up + half)


def independent_pairs(photos: list[int]) -> float:
    """To how many independent pairs all pairs of photos of one person each amount, at the least.

    One photo is in many pairs, so pairs depend on each other. A mean over all pairs of n photos varies no more than one over
    n // 2 pairs that share none (Hoeffding, J. Am. Stat. Assoc. 58 (1963) 13, section 5); people weigh as they have pairs.

    Args:
        photos: How many of each person.
    """
    pairs = [n * (n - 1) / 2 for n in photos if n >= 2]
    halves = [n // 2 for n in photos if n >= 2]
    if not pairs:
        return 0.0
    total = sum(pairs)
    return 1 / sum((pair / total) ** 2 / half for pair, half in zip(pairs, halves, strict=True))


def _rounded(low: float, high: float) -> Interval:
    return round(100 * low, 2), round(100 * high, 2)
