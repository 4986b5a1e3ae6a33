"""Tables and bars of an audit: groups, units, direction, chance, intervals, and IDI as a ratio."""

import dataclasses

import pytest
from rich.console import Console

from delete_tasks.audit import measure
from delete_tasks.audit.attack import GROUPS
from delete_tasks.audit.attacks import find_attacks
from delete_tasks.audit.pictures import bars, curves_by_attack, draw_bars, draw_curves
from delete_tasks.audit.run import HIGHER, NEITHER, markdown, show


@pytest.fixture(scope="module")
def audits(model):
    """Audits without and with retrained models."""
    rows = {"original": model("known"), "erased": model("other")}
    retrained = {"retrained_1": model("noise"), "retrained_2": model("noise")}
    return [measure(data, [3], ["cat", "dog", "frog", "ship"], "full") for data in (rows, rows | retrained)]


def printed(audit, **options) -> str:
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    show(audit, console, **options)
    return console.export_text()


def test_every_attack_has_a_group():
    assert {attack.group for attack in find_attacks()} == set(GROUPS)
    assert all((attack.group == "readers") == attack.reads for attack in find_attacks())


def test_the_terminal_shows_groups_chance_and_intervals_in_80_columns(audits):
    for audit in audits:
        text = printed(audit)
        lines = text.splitlines()
        assert max(map(len, lines)) <= 80
        assert [title in text for title in GROUPS.values()] == [True] * len(GROUPS)
        header = next(line for line in lines if line.startswith("attack"))
        assert all(word in header for word in ("original", "erased", "interval", "chance"))
        probe = next(line for line in lines if line.startswith("linear probe"))
        assert "25.0" in probe and "–" in probe
        assert f"logit rank {HIGHER}" in text and f"nats {NEITHER}" in " ".join(text.split())
        assert "lower is better" in text and f"{HIGHER} higher is better" in " ".join(text.split())


def test_idi_is_a_ratio_if_there_is_a_retrained_model_and_nats_otherwise(audits):
    alone, compared = (markdown(audit) for audit in audits)
    assert "| information, nats |" in alone and "IDI" not in alone
    line = next(line for line in compared.splitlines() if line.startswith("| IDI, ratio |"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    erased = 1 - audits[1].depth["information"].value
    assert cells[1] == "1.00" and float(cells[2]) == pytest.approx(erased, abs=0.006)


def test_bars_have_chance_and_the_erased_models_interval(audits, tmp_path):
    groups = {group.label: group for group in bars(audits[1])}
    probe, figure = groups["linear probe"], audits[1].rows["erased"]["linear_probe"]
    assert probe.chance == 25.0 and probe.interval == figure.interval and probe.values["erased"] == figure.value
    idi = groups["IDI, %"].values
    assert idi["original"] == pytest.approx(100) and idi["retrained"] == pytest.approx(0, abs=1e-6)
    assert "information, % of the original's" in {group.label for group in bars(audits[0])}
    draw_bars(audits[1], tmp_path / "bars.png")
    nothing = dataclasses.replace(audits[0], attacks=[attack for attack in audits[0].attacks if not attack.reads])
    assert bars(nothing) == [] and (tmp_path / "bars.png").stat().st_size > 10_000


def test_curves_of_relearning_are_its_figures_by_step(audits, tmp_path):
    curves = curves_by_attack(audits[1])["relearning, head"]
    assert list(curves) == ["original", "erased", "retrained_1", "retrained_2"]
    details = audits[1].rows["erased"]["relearn_head"].details
    last = details["by_step"]["50"] - details["kept_taken_by_step"]["50"]
    assert curves["erased"][50] == last < curves["original"][50]
    draw_curves(curves_by_attack(audits[1]), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000
