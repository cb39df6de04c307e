import pytest

from harness.errors import OutputError
from harness.files import temporary_beside
from harness.recording import RunDirectory
from harness.store import CellRecord


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


def test_one_runner_at_a_time(tmp_path):
    with RunDirectory(tmp_path).held(), pytest.raises(OutputError, match="another run"), RunDirectory(tmp_path).held():
        pass


def test_results_are_written_as_parquet_and_csv(tmp_path):
    import pandas

    directory = RunDirectory(tmp_path)
    directory.write_results([{"cell_id": "a", "bits": 4, "wer": 0.5}, {"cell_id": "b", "bits": None, "wer": None}])
    frame = pandas.read_parquet(tmp_path / "results.parquet")
    assert list(frame["cell_id"]) == ["a", "b"]
    assert (tmp_path / "results.csv").read_text().splitlines() == ["cell_id,bits,wer", "a,4,0.5", "b,,"]
