"""Computations of the kernels on a tile of logits ``(classes, locations)``, in float32.

The classes of a location are of two groups, masked and unmasked. One exponential an element, relative to the greatest logit of
the element's own group, gives the softmax over all classes as well as over the unmasked ones, however far the groups lie apart.
"""

import triton
import triton.language as tl

FLOOR = tl.constexpr(-1e30)  # what a logit of -inf counts as where it must be finite; see functional's CUT
INFINITY = tl.constexpr(float("inf"))


@triton.jit
def exponentials(x, kept, here):
    """``exp(x - greatest of its group)``, then the greatest and the sum, of the unmasked classes and of the masked ones.

    ``here`` says which classes there are, ``kept`` which of them are unmasked.
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
    """Greatest and sum of a group from those of two parts of it (online softmax)."""
    both = tl.maximum(old_max, new_max)
    return both, old_sum * tl.exp(old_max - both) + new_sum * tl.exp(new_max - both)


@triton.jit
def whole(kept_max, kept_sum, cut_max, cut_sum):
    """Greatest and sum over all classes, and ``log(masked probability / unmasked probability)``."""
    top = tl.maximum(kept_max, cut_max)
    total = kept_sum * tl.exp(kept_max - top) + cut_sum * tl.exp(cut_max - top)
    return top, total, (cut_max - kept_max) + (tl.log(cut_sum) - tl.log(kept_sum))


@triton.jit
def forgetting_of(odds):
    """``-log(1 - q_masked)``; as large as the reference's where the student rules every unmasked class out."""
    exact = tl.where(odds > 0, odds + tl.log(1 + tl.exp(-odds)), tl.log(1 + tl.exp(odds)))
    return tl.where(exact > -FLOOR, -FLOOR, exact)


@triton.jit
def mass_of(odds):
    """Probability of the masked classes."""
    return 1 / (1 + tl.exp(-odds))


@triton.jit
def raised(t, kept):
    """Teacher logits whose unmasked classes are finite: where it rules all of those out, its target is flat over them."""
    return tl.where(kept & (t < FLOOR), FLOOR, t)


@triton.jit
def compare(s, t, s_top, s_log, t_max, t_log, p):
    """``p (log p - log q)`` of each class: logits, greatest logit and log of the sum, of student and target."""
    log_ratio = (t - t_max[None, :] - t_log[None, :]) - (s - s_top[None, :] - s_log[None, :])
    return tl.where(p == 0.0, 0.0, p * log_ratio)


@triton.jit
def add_up(values, weight):
    """Weighted sum over a tile's locations; one of weight 0 stays out even if its value is not finite."""
    return tl.sum(tl.where(weight > 0, values * weight, 0.0), 0)


@triton.jit
def location_loss(s, t, kept, here):
    """Loss of each location of a tile that holds all classes, log odds of the masked ones of both models, and the gradient."""
    e, s_kept, s_kept_sum, s_cut, s_cut_sum = exponentials(s, kept, here)
    s_top, s_sum, s_odds = whole(s_kept, s_kept_sum, s_cut, s_cut_sum)
    q = e * tl.exp(tl.where(kept, s_kept[None, :], s_cut[None, :]) - s_top[None, :]) / s_sum[None, :]
    e, t_kept, t_kept_sum, t_cut, t_cut_sum = exponentials(t, kept, here)
    t_odds = whole(t_kept, t_kept_sum, t_cut, t_cut_sum)[2]
    p = tl.where(kept, e / t_kept_sum[None, :], 0.0)
    loss = tl.sum(compare(s, t, s_top, tl.log(s_sum), t_kept, tl.log(t_kept_sum), p), 0)
    return loss, s_odds, t_odds, q - p
