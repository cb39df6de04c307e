"""The ids of published results stand for good: today's code gives the same, from what was published alone."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.datasets import Corpus, Utterance
from harness.experiment.cell import id_of
from harness.experiment.config import load_experiment
from harness.experiment.plan import configurations
from harness.experiment.planned import planned_cells
from harness.metrics import Normaliser
from harness.records.asked import recorded_experiment
from harness.records.reading import open_run
from harness.resolution import identity
from harness.resolution.batching import batch_plan
from harness.resolution.checkpoints import ResolvedModel
from harness.resolution.identity import Resolved

RESULTS = sorted(path.parent for path in Path("experiments/results").glob("*/published.json"))
pytestmark = pytest.mark.skipif(not RESULTS, reason="nothing is published in experiments/results")


@dataclass(frozen=True)
class Recorded(Corpus):
    """A corpus of which only is known what identities say."""

    told: dict = field(default_factory=dict)

    @property
    def condition(self):
        return self.told


@pytest.fixture(params=RESULTS, ids=lambda path: path.name)
def run(request):
    return open_run(request.param)


@pytest.fixture
def documents(run):
    return [run.finished(row["cell_id"]) for row in run.results()]


def test_ids_are_hashes_of_identities(documents):
    for document in documents:
        assert id_of(document["identity"]) == document["cell_id"]


def test_what_was_computed_has_its_machine_and_what_was_refused_none(run, documents):
    assert all(("processor" in run.environment(d["cell_id"])) is (d["status"] == "done") for d in documents)


def test_the_experiments_file_still_plans_these_configurations(run, documents):
    """On the device on which they were computed."""
    asked = load_experiment(Path(f"experiments/{run.path.name}.toml"))
    device = {"device": recorded_experiment(run).run.device}
    planned = configurations(asked.model_copy(update={"run": asked.run.model_copy(update=device)}))
    assert {document["configuration_id"] for document in documents} <= {c.id for c in planned}


def test_cells_of_today_have_the_ids_of_then(run, documents, monkeypatch):
    """Versions, kind of machine, and what is known of model and speech are taken from the record, all else is made."""
    experiment = recorded_experiment(run)
    by_place = {(document["configuration_id"], document["split"]): document for document in documents}
    a_cell = documents[0]["identity"]
    lengths = {
        row["id"]: row["seconds"] for d in documents if d["status"] == "done" for row in run.utterances(d["cell_id"])
    }
    calibrated = next((s for d in documents if (s := d["identity"]["calibration_speech"])), None)
    monkeypatch.setattr(identity, "_speech", lambda corpus: calibrated)
    monkeypatch.setattr(identity.platform, "machine", lambda: a_cell["machine"])
    corpora, batches = {}, {}
    for data in experiment.data:
        known = next(d["identity"]["data"] for d in documents if d["split"] == data.label)
        own = run.utterances(next(d["cell_id"] for d in documents if d["split"] == data.label))
        spoken = tuple(Utterance(row["id"], None, "", Path(), row.get("language")) for row in own)
        corpora[data] = Recorded(known["id"], spoken, known["revision"], known.get("condition", {}))
        batches[data] = batch_plan({row["id"]: lengths[row["id"]] for row in own}, experiment.decoding.batch_size)
    revisions = {row["model"]: run.finished(row["cell_id"])["identity"]["model"]["revision"] for row in run.results()}
    models = {m: ResolvedModel(Path(), revisions[m.label], "whisper") for m in experiment.model}
    draws = experiment.calibration.draws if experiment.calibration else ()
    seeds = {draw.seed: Corpus("", ()) for draw in draws}
    resolved = Resolved(models, experiment.decoding.batch_size, batches, corpora, seeds)
    found = 0
    for configuration, data in planned_cells(experiment):
        document = by_place.get((configuration.id, data.label))
        if document is None:
            continue
        versions = document["identity"]["versions"]
        monkeypatch.setattr(identity, "versions_of", lambda backend, versions=versions: versions)
        normaliser = document["identity"]["normaliser"]
        monkeypatch.setattr(Normaliser, "version", normaliser)
        (cell,) = [c for c in identity.cells_of(configuration, experiment, resolved) if c.data == data]
        assert json.dumps(cell.identity, sort_keys=True) == json.dumps(document["identity"], sort_keys=True)
        assert cell.cell_id == document["cell_id"]
        found += 1
    assert found == len(documents)
