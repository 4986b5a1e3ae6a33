# What the paper compares, and how often.
# A method's own last layer is what its accuracies are of: with its row taken out, any model forgets.
unlearn = dict(keep_row=True, match_scale=False)
methods = {
    # The forget set alone.
    "DELETE": dict(type="DELETE"),
    "head only": dict(type="HeadOnly"),
    "projection": dict(type="Projection"),
    "negative gradient": dict(type="NegativeGradient"),
    "random label": dict(type="RandomLabel"),
    "boundary shrink": dict(type="BoundaryShrink"),
    "TREW": dict(type="TREW"),
    # With retain data.
    "fine-tuning": dict(type="FineTune"),
    "SalUn": dict(type="SalUn"),
    "bad teacher": dict(type="BadTeacher"),
    "SCRUB": dict(type="SCRUB"),
}
seeds = [0, 1, 2]
retrained_seeds = [0]
