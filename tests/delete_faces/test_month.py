"""A service's month by the commands (tools/service_month.py): people enrolled in PostgreSQL, three requests, a person added."""

import runpy

from helpers import read_json, read_results


def test_a_month_of_a_service(repository, postgres, cut_faces, lfw, weights, tmp_path):
    names = sorted(path.name for path in lfw.iterdir() if path.is_dir())[:41]
    cut_faces(faces := tmp_path / "faces", names[:7], 12, 4)  # of those who are removed
    cut_faces(faces, names[7:], 3, 3)
    tool = repository / "tools" / "service_month.py"
    service = runpy.run_path(str(tool))["Service"](tmp_path / "month", faces, postgres, names[:40], names[40])
    service.month(weights)  # ends with `record verify` of each request
    figures, runs = service.figures(), [read_results(service.folder / f"W{number}") for number in (1, 2, 3)]
    assert figures["removed"][1] <= 10 < 80 < figures["removed"][0] and figures["kept"][1] >= figures["kept"][0] - 1
    assert figures["added"][1] >= 80 and figures["least_cosine"] > 0.9999
    before = [run["details"]["removed_before"] for run in runs]
    assert before[0] is None and [one["people"] for one in before[1:]] == [1, 2]
    for number, count in enumerate((1, 1, 5), 1):
        (leg,) = read_json(service.folder, f"receipt{number}.json")["stores"]
        assert leg["removed"] == {"templates": 12 * count, "people": count}
    assert "3 templates of 1 people" in (service.folder / "transcript.txt").read_text()
