"""95% confidence intervals of measured figures, from counts."""

import math

Interval = tuple[float, float]
Z = 1.959963984540054  # two-sided 95% of the normal distribution


def wilson(percent: float | None, count: float | None) -> Interval | None:
    """Compute Wilson's score interval of a proportion, in percent; None without a proportion or samples (J. Am. Stat. Assoc. 22
    (1927) 209). It holds for few samples, and for 0% and 100%, where the normal interval has no width. ``count`` is the number of
    independent samples, which is fractional if samples depend on each other."""
    if percent is None or not count:
        return None
    share, weight = min(max(percent / 100, 0.0), 1.0), Z**2 / count
    middle = (share + weight / 2) / (1 + weight)
    half = Z * math.sqrt(share * (1 - share) / count + weight / (4 * count)) / (1 + weight)
    return round(100 * max(0.0, middle - half), 2), round(100 * min(1.0, middle + half), 2)


def paired(lost: float | None, gained: float | None, count: float | None) -> Interval | None:
    """Compute the interval of a loss of accuracy, in points, between two models on the same samples; None without samples. Wald's
    interval with half a sample added to each of the four cells (Agresti and Min, Stat. Med. 24 (2005) 729). Of ``count`` samples,
    only the first model predicts ``lost`` correctly, and only the second ``gained``; fractions count independent samples."""
    if lost is None or gained is None or not count:
        return None
    total = count + 2
    down, up = (lost + 0.5) / total, (gained + 0.5) / total
    half = Z * math.sqrt((down + up - (down - up) ** 2) / total)
    return round(100 * (down - up - half), 2), round(100 * (down - up + half), 2)


def newcombe(first: float, interval: Interval | None, second: float, other: Interval | None) -> Interval | None:
    """Compute the interval of the difference of two independent figures from each one's interval; None if one is missing. Each
    end adds the squares of the distances to the nearest or farthest ends (Newcombe, Stat. Med. 17 (1998) 873, method 10)."""
    if interval is None or other is None:
        return None
    (low, high), (least, most) = interval, other
    down, up = math.hypot(first - low, most - second), math.hypot(high - first, second - least)
    return first - second - down, first - second + up


def independent_pairs(photos: list[int]) -> float:
    """Compute a lower bound on the number of independent pairs to which all pairs of photos of one person are equivalent: a mean
    over all pairs of n photos varies no more than one over n // 2 pairs that share none (Hoeffding, J. Am. Stat. Assoc. 58 (1963)
    13, section 5). ``photos`` are the numbers of photos of each person, who have weights by their pairs."""
    pairs = {n: n * (n - 1) / 2 for n in photos}
    total = sum(pairs[n] for n in photos)
    return 1 / sum((pairs[n] / total) ** 2 / (n // 2) for n in photos if n >= 2) if total else 0.0
