"""Facts of a run, noted while they happen: what changed which tensors, which data were read for what, why the run ended."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from ..fileio.checkpoint import tensors_sha256

REPLACED = "class weights replaced"
SAVED = ("changes", "uses", "ended", "latest")


@dataclass
class Facts:
    """Facts of a run. Tensors are named as in the published model's state dict."""

    # In order: `by`, the cause, `tensors` that changed, and further facts.
    changes: list[dict[str, Any]] = field(default_factory=list)
    # Of data, see `read`; those of the steps follow from their number.
    uses: list[dict[str, Any]] = field(default_factory=list)
    ended: str | None = None  # reason why the run took no further step; None if it took all
    latest: dict[str, str] = field(default_factory=dict)  # digests of the tensors after the last noted change
    _network: nn.Module | None = None

    def begin(self, network: nn.Module) -> None:
        """Note the tensors of the module that the run changes; a resumed run has those of its beginning."""
        self._network = network
        self.latest = self.latest or digests(network)

    def change(
        self, by: str, modules: Iterable[nn.Module] | None = None, buffers: bool | None = None, **facts: Any
    ) -> None:
        """Note what has just changed tensors of ``modules`` (None: any): buffers, parameters, or both if ``buffers`` is None.
        Named are the tensors that differ from the last noted change; a change of none is not noted."""
        if self._network is None:  # only the first process keeps facts
            return
        now = digests(self._network, modules, buffers)
        tensors = [name for name, digest in now.items() if digest != self.latest[name]]
        self.latest |= now
        if tensors:
            self.changes.append({"by": by, "tensors": tensors, **facts})

    def read(
        self,
        of: str,
        use: str,
        samples: int,
        reads: int | None = None,
        classes: int | None = None,
        labels: bool = False,
        noun: str | None = None,
    ) -> None:
        """Note a use, in the words of "100 photos were ...", of a set of data, e.g. 'forget set'. ``reads`` counts the samples
        read, repeated ones as well (None: each of ``samples`` once), ``classes`` the classes (people) that the set shows,
        ``noun`` is for samples that are not the task's."""
        facts = {"samples": samples, "reads": reads, "classes": classes, "labels_used": labels}
        named = {} if noun is None else {"noun": noun}
        self.uses.append({"set": of, "use": use, **facts, **named})

    def state(self) -> dict[str, Any]:
        """Return the facts for a saved state."""
        return {name: getattr(self, name) for name in SAVED}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from the facts of a saved state."""
        vars(self).update({name: state[name] for name in SAVED})


def digests(
    network: nn.Module, modules: Iterable[nn.Module] | None = None, buffers: bool | None = None
) -> dict[str, str]:
    """Compute the SHA-256 of each tensor in a state dict; arguments as of :meth:`Facts.change`."""
    trained = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    inside = None if modules is None else {id(part) for module in modules for part in module.modules()}
    names = {} if inside is None else dict(network.named_modules(remove_duplicate=False))
    return {
        name: tensors_sha256({"": tensor})
        for name, tensor in network.state_dict().items()
        if isinstance(tensor, Tensor)
        and (buffers is None or buffers == (name not in trained))
        and (inside is None or id(names.get(name.rpartition(".")[0])) in inside)
    }


def layers_of(tensors: Iterable[str]) -> list[str]:
    """List the modules that hold tensors of a state dict; a tensor outside of all modules stands for itself."""
    return list(dict.fromkeys(name.rpartition(".")[0] or name for name in tensors))
