"""Stored templates of the people to forget, in place of their photos (``faces remove --from-templates``)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from delete_tasks.errors import RequestError

NAME, BESIDE = "gallery.npz", "gallery"  # file of a model folder, and its name on the command line
OF_STEPS = ("steps", "lr", "batch_size", "teacher_temperature", "stop")
UNCHANGED = (
    "No stored template was given of {} of {} people to forget, so for these the embedder was not changed: two photos of such a "
    "person match as before. Only class weights and names were removed."
)


@dataclass(frozen=True)
class Templates:
    """Templates of the people to forget, of any length."""

    embeddings: Tensor  # float32 (n, D)
    labels: NDArray[np.int64]  # (n,)
    names: list[str]  # of each, for messages and the list of samples
    lacking: Sequence[int]  # people without any

    def warnings(self, classes: Sequence[str]) -> list[str]:
        """Describe people, by indices into ``classes``, with no template or a single one."""
        single = [classes[i] for i, count in enumerate(np.bincount(self.labels, minlength=1)) if count == 1]
        none = "no template of {} in the store: class weights and name go, but two photos of the person match as before"
        one = "a single template of {}, hence one direction: more photos may still match than with several templates"
        return [*(none.format(classes[i]) for i in self.lacking), *map(one.format, single)]


def hint(model: str) -> str:
    """Tell users who deleted the photos that stored templates are enough."""
    place = BESIDE if Path(model, NAME).is_file() else "STORE.npz"
    return f"; if the photos were deleted, stored templates will do: --from-templates {place}"


def check_request(options: Mapping[str, Any]) -> None:
    """Refuse options of ``faces remove`` that need photos of the people to forget, or steps."""
    if options["photos"] is not None:
        raise RequestError("--photos and --from-templates both say what to forget; give one of them")
    given = [f"--{name.replace('_', '-')}" for name in OF_STEPS if options[name] is not None]
    given += ["--directions 0"] * (options.get("directions") == 0)
    given += [f"--method {options['method']}"] * (options["method"] != "DELETE")
    if given:
        raise RequestError(
            f"{given[0]} is about training steps, which need photos; --from-templates projects directions out and takes no step. "
            "Leave it out, or give --photos"
        )
