"""A service's month by the commands (tools/service_month.py): people enrolled in PostgreSQL, three requests, a person added."""

import runpy
from itertools import pairwise

from helpers import read_json, read_results

from delete_faces.stores import shown


def test_a_month_of_a_service(repository, postgres, cut_faces, lfw, weights, tmp_path):
    *names, added = sorted(path.name for path in lfw.iterdir() if path.is_dir())[:41]
    names = names[:24]
    faces = cut_faces(tmp_path / "faces", names[:7], 8, 4)  # most of those who are removed
    cut_faces(faces, [*names[7:], added], 3, 3)
    make = runpy.run_path(str(repository / "tools" / "service_month.py"))["Service"]
    service = make(tmp_path / "month", faces, postgres, names, added)
    service.month(weights)  # ends with `record verify` of each request
    figures, runs = service.figures(), [read_results(service.folder / f"W{number}") for number in (1, 2, 3)]
    assert figures["removed"][1] <= 10 < 80 < figures["removed"][0] and figures["kept"][1] >= figures["kept"][0] - 2.1
    assert figures["added"][1] >= 80 and figures["least_cosine"] > 0.9999
    assert [(run["details"]["removed_before"] or {}).get("people") for run in runs] == [None, 1, 2]
    assert {run["data"]["retain"] for run in runs} == {shown(service.store)}
    receipts = [read_json(service.folder, f"receipt{number}.json") for number in (1, 2, 3)]
    legs = [receipt["stores"][0] for receipt in receipts]
    assert [leg["removed"]["templates"] for leg in legs] == [8, 8, 40]
    assert all(one["after"]["sha256"] == following["before"]["sha256"] for one, following in pairwise(legs))
    transcript = (service.folder / "transcript.txt").read_text()
    said = "".join(line for line in transcript.splitlines() if not line.startswith("$"))
    assert "Templates: 3. People: 1" in said
    assert "postgres:@" in service.store and "postgres:@" not in said  # a password's place
