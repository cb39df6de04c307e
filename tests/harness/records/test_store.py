import csv
import fcntl
import json
import os
import threading
from contextlib import ExitStack
from unittest import mock

import pytest

from harness.errors import OutputError
from harness.experiment.cell import LATER_COLUMNS, SCHEMA_VERSION
from harness.records import locks
from harness.records.files import read_json, temporary_beside, write_json
from harness.records.layout import LATER_RESULTS, CellRecord
from harness.records.parts import Part, Parts
from harness.records.recording import RunDirectory
from harness.records.store import StoredRun


def record(status="done", **changes):
    content = {"cell_id": "abc", "status": status, "reason": "", "identity": {}, "measured": {}}
    return CellRecord("abc", content, **changes)


def test_a_cell_is_written_whole(tmp_path):
    directory = RunDirectory(tmp_path / "run")
    assert directory.finished("abc") is None
    directory.write(record(utterances=[{"id": "u", "tokens": [1, 2]}], layers=[{"name": "l"}], log="said\n"))
    assert directory.finished("abc")["status"] == "done"
    assert directory.utterances("abc") == [{"id": "u", "tokens": [1, 2]}]
    assert directory.layers("abc") == [{"name": "l"}]
    names = {path.name for path in (tmp_path / "run" / "cells" / "abc").iterdir()}
    assert names == {"cell.json", "environment.json", "log.txt", "utterances.parquet", "layers.parquet", "DONE"}


def test_a_later_record_replaces_an_earlier_one(tmp_path):
    directory = RunDirectory(tmp_path)
    directory.write(record("failed", log="trace"))
    directory.write(record("done"))
    assert directory.finished("abc")["status"] == "done"
    assert directory.utterances("abc") == []


def test_without_done_nothing_is_finished_and_leftovers_go(tmp_path):
    directory = RunDirectory(tmp_path)
    directory.write(record())
    (tmp_path / "cells" / "abc" / "DONE").unlink()
    temporary_beside(tmp_path / "cells" / "abc").mkdir()
    assert directory.finished("abc") is None
    with directory.held():
        assert not list((tmp_path / "cells").glob(".*"))


def test_parts_of_a_finished_cell_go_and_those_of_others_stay(tmp_path):
    directory = RunDirectory(tmp_path)
    directory.write(record("done"))
    for cell in ("abc", "unfinished"):
        Parts(tmp_path, cell).save(0, Part([], [], {}, 0, True))
    with RunDirectory(tmp_path).shared():
        assert [path.name for path in (tmp_path / "parts").iterdir()] == ["unfinished"]
    Parts(tmp_path, "abc").save(0, Part([], [], {}, 0, True))
    (tmp_path / "cells" / "abc" / "log.txt").write_text("altered")
    with RunDirectory(tmp_path).held():
        assert len(list((tmp_path / "parts").iterdir())) == 2


def test_who_holds_a_directory_keeps_all_others_out(tmp_path):
    directory = RunDirectory(tmp_path)
    with (
        mock.patch.object(locks, "_PAUSES", (0.0,)),
        RunDirectory(tmp_path).held(),
        pytest.raises(OutputError, match="another command"),
        directory.held(),
    ):
        pass


def test_nothing_is_begun_in_a_directory_that_another_runner_tidies_up(tmp_path):
    """What is being written there has a temporary name, and would be taken away."""
    begun = []
    with (tmp_path / ".lock").open("w") as tidying:
        fcntl.flock(tidying, fcntl.LOCK_EX)
        runner = threading.Thread(target=lambda: begun.append(RunDirectory(tmp_path)))
        runner.start()
        runner.join(timeout=0.5)
        assert runner.is_alive()
        assert not (tmp_path / "run.json").exists()
    runner.join(timeout=60)
    assert begun
    assert (tmp_path / "run.json").exists()


def test_results_are_written_as_parquet_and_csv(tmp_path):
    import pandas

    directory = RunDirectory(tmp_path)
    directory.write_results([{"cell_id": "a", "bits": 4, "wer": 0.5}, {"cell_id": "b", "bits": None, "wer": None}])
    frame = pandas.read_parquet(tmp_path / "results.parquet")
    assert list(frame["cell_id"]) == ["a", "b"]
    assert (tmp_path / "results.csv").read_text().splitlines() == ["cell_id,bits,wer", "a,4,0.5", "b,,"]


def test_one_command_alone_or_runners_together(tmp_path):
    directory = RunDirectory(tmp_path)
    with ExitStack() as stack:
        stack.enter_context(directory.shared())
        stack.enter_context(RunDirectory(tmp_path).shared())
        with pytest.raises(OutputError, match="another command"):
            stack.enter_context(RunDirectory(tmp_path).held())
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(locks, "_PAUSES", (0.0,)))
        stack.enter_context(directory.held())
        with pytest.raises(OutputError, match="another command"):
            stack.enter_context(RunDirectory(tmp_path).shared())


def test_who_goes_last_tidies_up(tmp_path):
    directory = RunDirectory(tmp_path)
    left = temporary_beside(tmp_path / "cells" / "abc")
    with directory.shared():
        left.mkdir()
        (tmp_path / "features").mkdir()
        with RunDirectory(tmp_path).shared():
            pass
        assert left.is_dir(), "the other one is at work"
    assert not left.exists()
    assert not (tmp_path / "features").exists()


@pytest.mark.parametrize("name", ["cell.json", "utterances.parquet", "log.txt", "environment.json"])
def test_a_damaged_cell_is_refused_named_and_set_aside(tmp_path, name):
    directory = RunDirectory(tmp_path)
    directory.write(record(utterances=[{"id": "u", "tokens": [1, 2]}], log="said\n"))
    path = tmp_path / "cells" / "abc" / name
    path.write_bytes(path.read_bytes()[:-1])
    reader = StoredRun(tmp_path)
    with pytest.raises(OutputError, match=f"{name}: it is not what was written.*run the experiment again"):
        reader.finished("abc")
    (wrong,) = directory.set_aside(["abc", "absent"])
    assert str(path) in wrong
    assert directory.finished("abc") is None
    (aside,) = (tmp_path / "damaged").iterdir()
    assert (aside / name).is_file()


def test_done_without_its_files_is_damage(tmp_path):
    directory = RunDirectory(tmp_path)
    directory.write(record())
    (tmp_path / "cells" / "abc" / "cell.json").unlink()
    assert "cell.json: it is missing" in directory.damage("abc")


def test_a_cell_in_anothers_place_is_damage(tmp_path):
    directory = RunDirectory(tmp_path)
    directory.write(record())
    (tmp_path / "cells" / "abc").rename(tmp_path / "cells" / "def")
    assert "another cell's" in directory.damage("def")


def test_a_done_cell_is_not_written_over(tmp_path):
    directory = RunDirectory(tmp_path)
    directory.write(record(log="first"))
    stamp = directory.stamp("abc")
    directory.write(record(log="second"))
    assert directory.stamp("abc") == stamp
    assert (tmp_path / "cells" / "abc" / "log.txt").read_text() == "first"


def test_results_that_were_changed_are_refused(tmp_path):
    directory = RunDirectory(tmp_path)
    directory.write_results([{"cell_id": "a", "status": "done"}])
    assert directory.results() == [
        {**LATER_COLUMNS, **LATER_RESULTS, "condition": "", "cell_id": "a", "status": "done"}
    ]
    with (tmp_path / "results.csv").open("a") as file:
        file.write("b,done\n")
    with pytest.raises(OutputError, match=r"results\.csv: it is not what was written"):
        directory.results()


def test_formulas_are_inert_in_the_csv(tmp_path):
    directory = RunDirectory(tmp_path)
    evil = ["=HYPERLINK(1)", "+1", "-1+1", "@SUM(A1)", "\tx", "fine"]
    directory.write_results([{"cell_id": text, "wer": -0.5} for text in evil])
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["cell_id"] for row in rows] == [*(f"'{text}" for text in evil[:-1]), "fine"]
    assert rows[0]["wer"] == "-0.5"
    assert [row["cell_id"] for row in directory.results()] == evil


@pytest.mark.parametrize("schema", [5, 7, "x"])
def test_results_of_another_version_are_refused(tmp_path, schema):
    RunDirectory(tmp_path)
    write_json(tmp_path / "run.json", {"schema": schema})
    for kind, mend in ((StoredRun, "read them with the version that"), (RunDirectory, "move the directory away")):
        with pytest.raises(OutputError, match=f"schema {schema}.*{mend}"):
            kind(tmp_path)


@pytest.mark.parametrize("damage", [None, "", "{", '{"schema": 5, "sha256": "0"}'])
@pytest.mark.parametrize(("schema", "mended"), [(SCHEMA_VERSION, True), (4, False)])
def test_a_version_that_is_damaged_or_missing_is_that_of_the_cells(tmp_path, damage, schema, mended):
    RunDirectory(tmp_path)
    (tmp_path / "run.json").unlink()
    if damage is not None:
        (tmp_path / "run.json").write_text(damage)
    (tmp_path / "cells" / "abc").mkdir()
    (tmp_path / "cells" / "abc" / "cell.json").write_text(json.dumps({"identity": {"schema": schema}}))
    (tmp_path / "cells" / "broken").mkdir()
    (tmp_path / "cells" / "broken" / "cell.json").write_text("{")
    if mended:
        RunDirectory(tmp_path)
        assert read_json(tmp_path / "run.json") == {"schema": SCHEMA_VERSION}
    else:
        for kind in (StoredRun, RunDirectory):
            with pytest.raises(OutputError, match="schema 4" if damage is None else r"run\.json"):
                kind(tmp_path)


def test_a_read_only_directory_is_one_sentence(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("the superuser may write everywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="results cannot be written there"):
        RunDirectory(tmp_path / "run")
