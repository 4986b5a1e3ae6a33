"""Model card by huggingface_hub, and the folder around it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..display.table import row_title
from ..display.terminal import say, short
from ..errors import RequestError, require
from ..fileio.atomic import discard, replacing_folder, save_bytes, save_json, save_text
from ..fileio.checkpoint import load_once, save_file, state_dict_of
from ..fileio.digests import SUMS, WEIGHTS, describe_model
from ..fileio.inputs import read_bytes, read_text
from ..fileio.manifest import holds_files
from ..runner.done import sentences
from ..task import load_task
from .compare import plain
from .record.files import CARD_WEIGHTS, PAGE, RECORD, SAMPLES
from .record.sign import SIGNATURE
from .record.verify import read_verified
from .residue import names_any
from .results import RESULTS, read_results

README, CONFIG, MADE_BY = "README.md", "config.json", "Written by `delete-tasks card`."
COPIED = (RECORD, PAGE, SUMS, SAMPLES, SIGNATURE)  # of a record, without its salt
PUBLISHED = ("erased", "erased.pth", "cleaned", "cleaned.pth")  # by a run without a record


def write_card(options: Mapping[str, Any], out: Path) -> None:
    """Write the folder ``out`` for the command's ``options``. Refuse a record that does not hold, a run that wrote no model, a
    folder with other files, and options with a name that the record does not show."""
    if holds_files(out) and not ((out / README).is_file() and MADE_BY in read_text(out / README, "replace")):
        raise RequestError(f"'{out}' holds files, and no card of this command; give a new folder")
    given = Path(options["model"])
    folder = given if (given / RESULTS).is_file() else given.absolute().parent
    results, record = read_results(folder / RESULTS), None
    path = next((folder / name for name in PUBLISHED if (folder / name).exists()), None)
    if (folder / RECORD).is_file():
        record, path = read_verified(folder)
        if record["results"] not in (None, results):
            raise RequestError(f"the record in '{folder}' has other results than {RESULTS}; put the files back")
    task = load_task(results["task"])
    if path is None or given.resolve() not in (folder.resolve(), path.resolve()) or task.hub is None:
        raise RequestError(f"'{given}' is no work dir with the model of a finished run, nor this model; give one")
    shown = record is not None and not record["forgotten"]["names_hidden"]
    given_names = " ".join(filter(None, (options[name] for name in ("base_model", "dataset", "license"))))
    if not shown and names_any(given_names, results["forgotten"]):
        raise RequestError(f"'{given_names}' names what the record does not; choose other names")
    library, pipeline, configs = task.hub(path, record, task.classes_are_people and not shown)
    files = describe_model(path, path.parent)["files"]
    weights = path.parent / next(each["path"] for each in files if each["path"].endswith(WEIGHTS))
    tensors = state_dict_of(load_once(weights), f"'{weights}'")
    about = {"library_name": library, "pipeline_tag": pipeline, "license": options["license"]}
    card = make_card(options, about, results, record=record, shown=shown, task=task, config=configs[CONFIG])
    with replacing_folder(out) as place:
        # Clones, since safetensors refuses tensors that share memory.
        save_file({name: tensor.clone() for name, tensor in tensors.items()}, place / CARD_WEIGHTS)
        for name, content in configs.items():
            save_json(content, place / name)
        for name in COPIED:
            if record is not None and (folder / name).is_file():
                save_bytes(read_bytes(folder / name), place / name)
            else:
                discard(place / name)  # an earlier card's
        save_text(str(card), place / README)
    say(f"Written: {short(out)} ({'without' if record is None else 'with'} a record)")


def make_card(options: Mapping[str, Any], about: Mapping[str, Any], results: Mapping[str, Any], **more: Any) -> Any:
    """Make the card; ``about`` is metadata, ``more`` is for the template."""
    hub: Any = require("huggingface_hub", "hub")
    require("jinja2", "record")  # for its templates
    erased = {name: figure["value"] for name, figure in results["rows"]["erased"].items()}
    metrics = [each for each in results["metrics"] if each["column"] is not None and not each["detail"]]
    metrics = [each for each in metrics if erased.get(each["name"]) is not None]
    base, data = options["base_model"], options["dataset"]
    where, figures = (about["pipeline_tag"], data or "unknown", data or "test data of the run"), []
    for each in metrics:
        kind = "mean_iou" if "iou" in each["name"] else "accuracy" if "acc" in each["name"] else each["name"]
        title = plain(f"{each['title']} ({each['unit']})")
        figures.append(hub.EvalResult(*where, kind, erased[each["name"]], metric_name=title))
    name, tags = f"{(base or 'model').rpartition('/')[2]}-erased", ["machine-unlearning", "delete-tasks"]
    return hub.ModelCard.from_template(
        hub.ModelCardData(model_name=name, tags=tags, base_model=base, eval_results=figures or None, **about),
        template_str=Path(__file__).with_name("card_template.md").read_text(encoding="utf-8"),
        **{"results": results, "metrics": metrics, "plain": plain, "row_title": row_title, "made_by": MADE_BY},
        **{"verdict": (more["record"] or results).get("verdict"), "done": " ".join(sentences(results.get("done")))},
        **more,
    )
