"""Test data of ``backdoor clean``, checked before the first step, and the rows of its table as they come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from delete_images.data import NO_LABEL, ImageData, open_data
from delete_images.evaluate import Answers, answers, cut
from delete_images.spec import ModelSpec
from delete_tasks.errors import RequestError

from .checks import check_sizes
from .measure import figures
from .poison import triggered
from .triggers import parse_trigger


@dataclass(frozen=True)
class TestData:
    """What rows are measured on.

    Attributes:
        clean: Clean test images with labels, or None.
        attacked: Those that are not of the target, with the trigger, or None.
    """

    clean: ImageData | None = None
    attacked: ImageData | None = None

    def parts(self) -> list[ImageData]:
        """Those that are there."""
        return [data for data in (self.clean, self.attacked) if data is not None]


def open_test(test: str | None, trigger: str | None, spec: ModelSpec, target: int) -> TestData:
    """Open test images and put the trigger on a copy of them.

    Args:
        test: Data string of clean test images.
        trigger: Trigger string.
        spec: The model's description.
        target: The attacker's class.

    Raises:
        RequestError: A trigger without test images, images without labels, none of the target class or none of another, or,
            with a trigger, another size than the model's.
    """
    if test is None:
        if trigger is not None:
            raise RequestError("--trigger says how test images are attacked, and there are none; give --eval, too")
        return TestData()
    stamp = None if trigger is None else parse_trigger(trigger)
    clean = open_data(test, "test", spec.classes)
    missing = int((clean.labels == NO_LABEL).sum())
    if missing:
        raise RequestError(
            f"{missing} of {len(clean)} images in '{test}' have no label, without which nothing is measured"
        )
    shown, name = clean.labels == target, spec.classes[target]
    if shown.all() or not shown.any():
        which = "shows nothing but" if shown.all() else "shows no image of"
        raise RequestError(f"--eval '{test}' {which} the target class '{name}'; give test images of all classes")
    if stamp is None:
        return TestData(clean)
    check_sizes(clean, spec, "test")
    return TestData(clean, triggered(clean, stamp, target))


class Rows:
    """Rows of the table as they are measured; what cannot be measured is left out with its reason.

    Args:
        spec: The model's description.
        target: The attacker's class.
        test: See :func:`open_test`.

    Attributes:
        rows: By name, see :data:`delete_backdoor.clean.ROWS`.
        not_measured: Why something is missing, by what it is.
    """

    def __init__(self, spec: ModelSpec, target: int, test: TestData) -> None:
        self.spec, self.target, self.test = spec, target, test
        self.rows: dict[str, Any] = {}
        self.not_measured: dict[str, str] = {}
        self._original: Answers | None = None

    def _predict(self, network: nn.Module, name: str) -> list[Answers | None]:
        return [
            None if data is None else answers(network, self.spec, data, f"{name}, {kind}")
            for data, kind in ((self.test.clean, "clean"), (self.test.attacked, "triggered"))
        ]

    def _row(self, clean: Answers | None, attacked: Answers | None) -> dict[str, Any]:
        if clean is None or self._original is None:
            return {}
        return figures(clean, attacked, self._original, self.target, self.spec.classes)

    def add_original(self, network: nn.Module, force: bool = False) -> None:
        """Rows 'original' and 'logit_cut'. Made before the first step, they try each evaluation that comes after the last.

        Args:
            network: The original.
            force: Go on whatever it predicts.

        Raises:
            RequestError: Its outputs are not finite, or (not with ``force``) it predicts no better than chance.
        """
        found = self._predict(network, "original")
        self._original = found[0]
        if any(part is not None and not bool(part.logits.isfinite().all()) for part in found):
            raise RequestError("the model's outputs on the test images are not all finite: its weights are damaged")
        self.rows["original"] = self._row(*found)
        hidden = [None if part is None else cut(part, [self.target]) for part in found]
        self.rows["logit_cut"] = self._row(*hidden)
        if found[0] is not None and not force:
            self._check_accuracy(found[0])

    def _check_accuracy(self, clean: Answers) -> None:
        chance, count = 1 / len(self.spec.classes), len(clean.labels)
        accuracy = float((clean.logits.argmax(1) == clean.labels).float().mean())
        if accuracy <= chance + 2 * np.sqrt(chance * (1 - chance) / count):
            raise RequestError(
                f"the model predicts {100 * accuracy:.1f}% of {count} test images as their class, no more than chance: its "
                "classes are in another order than the data's, or model.json says another normalisation than it was trained "
                "with; import it again, or pass --force"
            )

    def add(self, name: str, network: nn.Module, more: dict[str, Any]) -> None:
        """A further row: ``more``, and what is measured of ``network``."""
        self.rows[name] = {**self.attempt(name, lambda: self._row(*self._predict(network, name)), {}), **more}

    def attempt(self, name: str, measure: Callable[[], Any], otherwise: Any = None) -> Any:
        """What ``measure`` returns; where it fails ``otherwise``, since a finished run is not to be lost for a figure."""
        try:
            return measure()
        except Exception as error:
            self.not_measured[name] = f"{type(error).__name__}: {error}"
            return otherwise
