"""Results in trackio's own store."""

import sys

import pytest
import trackio

from harness.errors import ConfigError
from harness.records.reading import open_run
from harness.report.tracking import check_tracker, track
from tests.harness.pages import stored_run


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """Where trackio keeps what it is given."""
    for module in [module for name, module in sys.modules.items() if name.startswith("trackio")]:
        if hasattr(module, "TRACKIO_DIR"):
            monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path / "trackio")
    return tmp_path


def test_every_configuration_is_a_run_once(stored, capsys):
    rows = open_run(stored_run(stored / "run")).results()
    done = {row["configuration_id"]: row for row in rows if row["status"] == "done"}
    assert track(rows, "whisper") == len(done)
    assert track(rows, "whisper") == 0
    assert capsys.readouterr().out == ""
    runs = {run.name: run for run in trackio.Api().runs("whisper")}
    assert len(runs) == len(done)
    one = next(iter(done.values()))
    (name,) = [name for name in runs if one["configuration_id"] in name]
    assert name.endswith("(clean, other)")
    assert runs[name].config["backend"] == one["backend"]
    (logged,) = trackio.SQLiteStorage.get_logs("whisper", name)
    assert logged["size_bytes"] == one["size_bytes"]
    assert logged["clean/wer"] == one["wer"]
    assert "clean/difference" not in logged or one["backend"] != "none"


def test_without_trackio_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("harness.report.tracking.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install .\.\[trackio\]"):
        check_tracker()
