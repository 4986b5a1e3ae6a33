"""Work dirs of runs that were killed, or are still running."""

import subprocess
import sys

import pytest
from helpers import files_in

from delete_tasks.errors import FinishedError, RequestError
from delete_tasks.fileio.workdir import LOCK, MANIFEST, TEMPORARY, claim

REQUEST = {"command": "images forget", "classes": ["car"]}


@pytest.mark.parametrize("keeps", [False, True])
def test_a_finished_run_that_was_killed_leaves_no_state(tmp_path, keeps):
    script = f"""if True:
        import os, signal
        from delete_tasks.fileio.atomic import save_text
        from delete_tasks.fileio.workdir import claim
        with claim({str(tmp_path / "w")!r}, {REQUEST!r}) as work:
            work.keep_states = {keeps}
            work.own(work.path / "step_2.pth", state=True)
            for name in ("step_2.pth", "results.json"):
                save_text("a", work.path / name)
            work.finish()
            open(work.path / ".x.delete-tasks.tmp", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)"""
    subprocess.run([sys.executable, "-c", script], check=False)
    kept = [MANIFEST, "results.json", *(["step_2.pth"] if keeps else [])]
    assert set(files_in(tmp_path / "w")) == {*kept, LOCK, "step_2.pth", ".x.delete-tasks.tmp"}
    with pytest.raises(FinishedError):
        claim(tmp_path / "w", REQUEST, resume=True)
    assert files_in(tmp_path / "w") == kept


def test_two_runs_at_once_and_one_that_was_killed(tmp_path):
    code = (
        "import sys, time; from delete_tasks.fileio.workdir import claim; w = claim(sys.argv[1], {}); "
        "open(sys.argv[1] + '/.x.pth.0123.delete-tasks.tmp', 'w').close(); print('held', flush=True); time.sleep(600)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "w")], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    with pytest.raises(RequestError, match="another run"):
        claim(tmp_path / "w", {})
    other.kill()
    other.wait()
    with claim(tmp_path / "w", {}) as work:
        assert files_in(work.path) == [LOCK]
    assert not (tmp_path / "w" / LOCK).exists()


def test_a_killed_runs_temporary_folder_is_deleted(tmp_path):
    left = tmp_path / f".a{TEMPORARY}"
    left.mkdir()
    (left / "run.log").write_text("")
    with claim(tmp_path, {}):
        assert not left.exists()
