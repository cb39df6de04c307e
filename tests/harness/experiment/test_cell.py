from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from backends import Unsupported
from harness.execution.preparation import groups_of
from harness.experiment.cell import LATER_COLUMNS, hash_of, identifying, spec_columns
from harness.experiment.config import load_experiment
from harness.experiment.plan import baseline_of, configurations, select
from harness.resolution import identity
from tests.harness.runs import as_asked

EMBEDDED = Path("experiments/embedded.toml")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner, max_size=4)
)


@given(st.dictionaries(st.text(), json_values))
def test_hash_does_not_depend_on_the_order_of_keys(value):
    assert hash_of(value) == hash_of(dict(reversed(value.items())))


def cell_ids(*overrides):
    experiment = load_experiment(EMBEDDED, ["data.0.limit=3", "data.1.limit=3", *overrides])
    planned = configurations(experiment)
    resolved = identity.resolve(experiment, planned, as_asked)
    return [cell.cell_id for c in planned for cell in identity.cells_of(c, experiment, resolved)]


def test_ids_are_distinct_and_repeat():
    ids = cell_ids()
    assert len(set(ids)) == len(ids)
    assert cell_ids() == ids


def test_what_can_change_a_hypothesis_changes_the_id_and_nothing_else():
    ids = set(cell_ids())
    for setting in (
        "decoding.batch_size=7",
        "decoding.max_new_tokens=9",
        "run.seed=1",
        "run.threads_per_worker=2",
        "data.0.limit=4",
        "data.0.seed=1",
        "scoring.normalizer=none",
    ):
        assert not ids >= set(cell_ids(setting)), setting
    for setting in (
        "run.workers=7",
        "run.output='elsewhere'",
        "run.stall_timeout=5",
        "description='other'",
        "model.0.name=other",
    ):
        assert ids == set(cell_ids(setting)), setting


def test_a_condition_adds_cells_and_changes_no_other():
    ids = cell_ids()
    noisy = cell_ids("data.0.noise_db=[inf, 5, 0]")
    assert len(set(noisy)) == 2 * len(ids)
    assert set(ids) < set(noisy)


def test_calibration_counts_for_static_cells_alone():
    changed = set(cell_ids()) ^ set(cell_ids("calibration.utterances=32"))
    static = [c for c in configurations(load_experiment(EMBEDDED)) if c.spec.scheme == "static"]
    assert len(changed) == 2 * 2 * len(static)


def test_every_configuration_has_its_baseline_also_when_selected():
    planned = configurations(load_experiment(EMBEDDED))
    for chosen in (planned, select(planned, "backend=hqq,bits=4|3")):
        assert all(baseline_of(c) in chosen for c in chosen)
    assert {c.backend for c in select(planned, "backend=hqq")} == {"none", "hqq"}


def test_the_embedded_grid_is_as_large_as_promised():
    planned = configurations(load_experiment(EMBEDDED))
    assert len([c for c in planned if c.backend not in ("none", "cast")]) >= 18
    assert {"torch_dynamic", "torch_static", "quanto", "hqq", "bitsandbytes", "cast", "none"} == {
        c.backend for c in planned
    }


def test_blocks_are_united_without_duplicates():
    experiment = load_experiment(EMBEDDED)
    doubled = experiment.model_copy(update={"grid": [*experiment.grid, *experiment.grid]})
    assert configurations(doubled) == configurations(experiment)


ROUNDED = """
name = "rounded"
model = "embedded"
data = [{ dataset = "embedded", split = "clean" }]
calibration = { utterances = 4, data = { dataset = "embedded", split = "calibration" } }
run = { device = "cpu" }
[[grid]]
backend = ["torch_static", "reference", "quanto"]
scheme = "static"
bits = 8
outputs = [true, false]
"""


def test_rounded_outputs_are_a_column_a_label_and_a_reason(tmp_path):
    (tmp_path / "rounded.toml").write_text(ROUNDED)
    planned = configurations(load_experiment(tmp_path / "rounded.toml"))
    found = {(c.backend, spec_columns(c)["outputs"]): c for c in planned if not c.is_baseline}
    assert len(found) == 6
    labels = {key: c.label.partition("per_channel")[2].strip() for key, c in found.items()}
    assert labels["torch_static", False] == "outputs=false"
    assert labels["reference", True] == "outputs=true"
    assert labels["torch_static", True] == labels["reference", False] == labels["quanto", False] == ""
    assert found["quanto", True].capability == Unsupported(
        "quanto leaves what layers give as floats: leave outputs out"
    )


RECIPES = """
name = "recipes"
model = "embedded"
data = [{ dataset = "embedded", split = "clean" }]
run = { device = "cpu" }
[[grid]]
backend = "ptq"
granularity = "per_group:32"
bits = [4, 3]
method = "rtn"
rest = ["fp32", "fp16"]
recipe = [
    [],
    [{ bits = 3 }],
    [{ modules = ["tied"], bits = 6, granularity = "per_channel" }, { parts = ["decoder"], bits = 3 }],
    [{ match = "*.fc1", skip = true }],
]
"""


def planned_recipes(tmp_path):
    (tmp_path / "recipes.toml").write_text(RECIPES)
    return [c for c in configurations(load_experiment(tmp_path / "recipes.toml")) if not c.is_baseline]


def test_columns_in_which_rules_differ_are_empty(tmp_path):
    found = {(spec_columns(c)["recipe"], c.spec.bits, c.spec.rest): c for c in planned_recipes(tmp_path)}
    tie = (
        '[{"bits":6,"granularity":"per_channel","modules":["tied"]},{"bits":3,"parts":["decoder"]},'
        '{"bits":4,"granularity":"per_group:32"}]'
    )
    columns = spec_columns(found[tie, 4, "fp16"])
    assert [columns[key] for key in ("bits", "granularity", "group_size", "modules")] == [None] * 4
    assert [columns[key] for key in ("format", "method", "symmetric", "rest")] == ["int", "rtn", False, "fp16"]
    skipping = spec_columns(found['[{"match":"*.fc1","skip":true}]', 4, "fp32"])
    assert [skipping[key] for key in ("bits", "granularity", "modules")] == [4, "per_group", "linear"]
    assert found[tie, 4, "fp16"].label.endswith("rest=fp16 [tied 6-bit per_channel; decoder 3-bit]")


def test_a_recipe_that_changes_nothing_is_no_configuration_of_its_own(tmp_path):
    """Of 16 combinations two say 3 bits, and 3 bits for all linear layers."""
    found = planned_recipes(tmp_path)
    assert len(found) == len({c.id for c in found}) == 14


def test_encoders_that_may_be_the_same_have_one_hash(tmp_path):
    by_encoder = {}
    for configuration in planned_recipes(tmp_path):
        spec = configuration.spec
        by_encoder.setdefault(configuration.encoder, set()).add((spec.bits, len(spec.recipe), spec.rest))
    assert {(4, 0, "fp32"), (4, 2, "fp32"), (4, 2, "fp16")} <= next(
        own for own in by_encoder.values() if (4, 0, "fp32") in own
    )
    assert len(by_encoder) == 4


def test_a_later_column_changes_no_earlier_id():
    for configuration in configurations(load_experiment(EMBEDDED)):
        columns = spec_columns(configuration)
        earlier = {key: value for key, value in columns.items() if key not in LATER_COLUMNS}
        assert columns.keys() - earlier.keys() == LATER_COLUMNS.keys()
        usual = {key: columns[key] for key in LATER_COLUMNS} == LATER_COLUMNS
        assert (identifying(columns) == earlier) is usual
        assert usual is (configuration.backend != "torch_static")


def test_labels_tell_configurations_apart():
    for path in sorted(set(Path("experiments").glob("*.toml")) - {Path("experiments/claims.toml")}):
        planned = configurations(load_experiment(path))
        assert len({(c.model.path, c.device, c.label) for c in planned}) == len(planned), path


def test_published_values_stay_with_the_baseline_wherever_its_block_stands():
    planned = configurations(load_experiment(Path("experiments/whisper_small.toml"), ["run.device='cpu'"]))
    for chosen in (planned, select(planned, "backend=hqq")):
        baseline = next(c for c in chosen if c.is_baseline)
        assert baseline.reference is not None
        assert baseline.reference.wer["test-clean"] == 3.48


def test_baselines_begin_first_split_by_split_and_what_takes_no_drafts_next():
    experiment = load_experiment(EMBEDDED, ["data.0.limit=3", "data.1.limit=3"])
    planned = configurations(experiment)
    resolved = identity.resolve(experiment, planned, as_asked)
    groups = groups_of([cell for c in planned for cell in identity.cells_of(c, experiment, resolved)])
    begun = [own[0].configuration for own in groups]
    assert [c.is_baseline for c in begun[:3]] == [True, True, False]
    assert [len(own) for own in groups] == [1, 1] + [2] * (len(planned) - 1)
    drafted = [c.takes_drafts for c in begun[2:]]
    assert drafted == sorted(drafted)
    assert not drafted[0]
    assert drafted[-1]
