"""Names and descriptions of the unlearning methods, for help and completion, without torch."""

from ..plugins import offered

GROUP = "methods"  # entry point group delete_tasks.methods
RETAIN = "For comparison, with a retain set (images forget --retain)"
# Every method of delete_tasks.methods.builtin by use; a test compares names and needs with the classes.
METHODS = {
    "Default of segmentation, faces and backdoors; of images below 300 steps": {
        "DELETE": "Distil to the original, classes masked (arXiv 2503.23751)",
    },
    "Default of images (segmentation: --deep): features are erased as well": {
        "DeepDELETE": "DELETE with losses on features; no faces, no backdoors",
    },
    "For comparison, with the forget set alone": {
        "HeadOnly": "DELETE in the last layer alone; features keep the class",
        "Projection": "Class direction projected out in closed form",
        "TREW": "DELETE, tilted to the nearest classes (arXiv 2506.20893)",
        "RandomLabel": "Cross entropy to random other labels (CVPR 2020)",
        "NegativeGradient": "Gradient ascent on the labels (CVPR 2020)",
        "BoundaryShrink": "Cross entropy to the nearest other class (CVPR 2023)",
    },
    RETAIN: {
        "FineTune": "Cross entropy on the retain set (arXiv 1805.12185)",
        "BadTeacher": "Distil the forget set to an untrained network (AAAI 2023)",
        "SCRUB": "Away from the original on the forget set (NeurIPS 2023)",
        "SalUn": "Random labels for the most salient weights (ICLR 2024)",
    },
}


def method_groups() -> dict[str, dict[str, str]]:
    """Collect the methods by use: heading -> name -> line. Methods of other packages are listed, not loaded."""
    listed = {name for lines in METHODS.values() for name in lines}
    others = {name: f"registered by {module}" for name, module in offered(GROUP).items() if name not in listed}
    return METHODS | ({"From other packages": others} if others else {})


def method_names(retain: bool = True) -> list[str]:
    """List the methods' names, the default first; without ``retain``, only those that need no retain set."""
    return [name for heading, lines in method_groups().items() if retain or heading != RETAIN for name in lines]
