"""Computations of the kernels on a tile of logits ``(classes, locations)``, in float32.

The classes of a location are of two groups, masked and unmasked. One exponential per element, relative to the greatest logit of
the element's group, gives the softmax over all classes and over the unmasked ones, however far the groups lie apart.
"""

import triton
import triton.language as tl

FLOOR = tl.constexpr(-1e30)  # finite stand-in for a logit of -inf, see CUT in chunked.py
INFINITY = tl.constexpr(float("inf"))


@triton.jit
def exponentials(x, kept, here):
    """Compute ``exp(x - greatest of its group)``, and each group's greatest logit and sum, unmasked classes first.

    ``here`` is True for existing elements, ``kept`` for the unmasked ones among them.
    """
    cut = here & (kept == 0)
    kept_max = tl.maximum(tl.max(tl.where(kept, x, -INFINITY), 0), FLOOR)
    cut_max = tl.maximum(tl.max(tl.where(cut, x, -INFINITY), 0), FLOOR)
    e = tl.exp(x - tl.where(kept, kept_max[None, :], cut_max[None, :]))
    kept_sum = tl.sum(tl.where(kept, e, 0.0), 0)
    cut_sum = tl.sum(tl.where(cut, e, 0.0), 0)
    return e, kept_max, kept_sum, cut_max, cut_sum


@triton.jit
def merge(old_max, old_sum, new_max, new_sum):
    """Merge the greatest logits and sums of two parts of a group (online softmax)."""
    both = tl.maximum(old_max, new_max)
    return both, old_sum * tl.exp(old_max - both) + new_sum * tl.exp(new_max - both)


@triton.jit
def whole(kept_max, kept_sum, cut_max, cut_sum):
    """Compute greatest and sum over all classes, and ``log(masked probability / unmasked probability)``."""
    top = tl.maximum(kept_max, cut_max)
    total = kept_sum * tl.exp(kept_max - top) + cut_sum * tl.exp(cut_max - top)
    return top, total, (cut_max - kept_max) + (tl.log(cut_sum) - tl.log(kept_sum))


@triton.jit
def terms_of(s_odds, t_odds):
    """Compute, from log odds of the masked classes, ``-log(1 - q_masked)``, at most ``-FLOOR``, as in PyTorch, if no unmasked
    class has a probability; and s*t and t*t, s and t the student's and the teacher's probability of the masked classes."""
    exact = tl.where(s_odds > 0, s_odds + tl.log(1 + tl.exp(-s_odds)), tl.log(1 + tl.exp(s_odds)))
    s_mass, t_mass = 1 / (1 + tl.exp(-s_odds)), 1 / (1 + tl.exp(-t_odds))
    return tl.where(exact > -FLOOR, -FLOOR, exact), s_mass * t_mass, t_mass * t_mass


@triton.jit
def raised(t, kept):
    """Make the teacher's unmasked logits finite: a teacher that rules all of them out has a flat target over them."""
    return tl.where(kept & (t < FLOOR), FLOOR, t)


@triton.jit
def compare(s, t, s_top, s_log, t_max, t_log, p):
    """Compute ``p (log p - log q)`` of each class from logits, greatest logits and logs of sums of student and target."""
    log_ratio = (t - t_max[None, :] - t_log[None, :]) - (s - s_top[None, :] - s_log[None, :])
    return tl.where(p == 0.0, 0.0, p * log_ratio)


@triton.jit
def weighted(values, weight):
    """Multiply by weights; a location of weight 0 counts as 0 even if its value is not finite."""
    return tl.where(weight > 0, values * weight, 0.0)


@triton.jit
def location_loss(s, t, kept, here):
    """Compute losses, both models' log odds of the masked classes, and the gradient, of a tile that holds all classes."""
    e, s_kept, s_kept_sum, s_cut, s_cut_sum = exponentials(s, kept, here)
    s_top, s_sum, s_odds = whole(s_kept, s_kept_sum, s_cut, s_cut_sum)
    q = e * tl.exp(tl.where(kept, s_kept[None, :], s_cut[None, :]) - s_top[None, :]) / s_sum[None, :]
    e, t_kept, t_kept_sum, t_cut, t_cut_sum = exponentials(t, kept, here)
    t_odds = whole(t_kept, t_kept_sum, t_cut, t_cut_sum)[2]
    p = tl.where(kept, e / t_kept_sum[None, :], 0.0)
    loss = tl.sum(compare(s, t, s_top, tl.log(s_sum), t_kept, tl.log(t_kept_sum), p), 0)
    return loss, s_odds, t_odds, q - p
