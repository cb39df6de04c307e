"""Experiment files: what is read, and ten and more kinds of mistakes, each one sentence and status 2."""

from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.experiment.config import load_experiment
from harness.experiment.plan import configurations
from harness.grid import main

EXPERIMENTS = sorted(set(Path("experiments").glob("*.toml")) - {Path("experiments/claims.toml")})
MINIMAL = """
name = "t"
[[model]]
path = "embedded"
[[data]]
dataset = "embedded"
split = "clean"
limit = 2
[decoding]
max_new_tokens = 20
[run]
device = "cpu"
[[grid]]
backend = "hqq"
granularity = "per_group:64"
bits = 4
"""


@pytest.fixture
def experiment_file(tmp_path):
    def write(text=MINIMAL, **replacements):
        for old, new in replacements.items():
            text = text.replace(old, new)
        path = tmp_path / "experiment.toml"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.stem)
def test_shipped_experiments_are_valid_and_plan(path, capsys, monkeypatch):
    monkeypatch.setattr("harness.report.estimate.measured", lambda trials, threads, processes: [0.1] * len(trials))
    assert load_experiment(path).name == path.stem
    assert main([str(path), "--dry-run"]) == 0
    output = capsys.readouterr().out
    assert "full precision" in output
    assert "on this machine" in output or "how long that takes is not known" in output


def test_overrides_reach_tables_lists_and_short_forms(experiment_file):
    path = experiment_file()
    experiment = load_experiment(path, ["decoding.batch_size=3", "data.0.limit=7", "model='elsewhere'", "name=other"])
    assert experiment.decoding.batch_size == 3
    assert experiment.data[0].limit == 7
    assert experiment.model[0].path == "elsewhere"
    assert experiment.name == "other"


def sentence_of(capsys, arguments):
    """Run the command line; return its one sentence of complaint."""
    assert main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("error: ")
    assert "Traceback" not in captured.err
    return lines[0]


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("bits = 4", "bits = 4\nbit = 3", "unknown key grid.0.bit; allowed here are activations, backend"),
        ("bits = 4", 'bits = "four"', "grid.0.bits"),
        ("bits = 4", "", "the key grid.0.bits is missing"),
        ("bits = 4", "bits = 9", "bits is 9; integers have 1 to 8"),
        ('backend = "hqq"', 'backend = "hqqq"', "did you mean 'hqq'"),
        ("bits = 4", "bits = 7", "no configuration can be done"),
        ("per_group:64", "per_row", "per_group:SIZE"),
        ('dataset = "embedded"', 'dataset = "embeded"', "did you mean 'embedded'"),
        ("limit = 2", "limit = 0", "data.0.limit"),
        ('name = "t"', 'name = "../t"', "name"),
        ("[[model]]", "[[model", "not valid TOML"),
        ("bits = 4", "bits = 4\noptions.hqq.axes = 1", "axis, straddle"),
        ("bits = 4", "bits = 4\noptions.quanto.unpack = 'torch'", "grid.0.options.quanto: the block has no backend"),
        ("bits = 4", "bits = []", "key grid.0.bits"),
        ("bits = 4", "bits = 4\nmodules = []", "key grid.0.modules"),
        ('path = "embedded"', 'path = "my models/tiny"', "there is no such directory"),
        ('path = "embedded"', 'path = "~nobody-of-this-name/x"', "there is no such directory"),
        (
            "[decoding]",
            '[[data]]\ndataset = "embedded"\nsplit = "clean"\n[decoding]',
            "two [[data]] entries are called 'clean'",
        ),
        (
            'backend = "hqq"\ngranularity = "per_group:64"\nbits = 4',
            'backend = "quanto"\nscheme = "static"\nbits = 8',
            "[calibration]",
        ),
        ('split = "clean"', 'split = "dirty"', "calibration, clean, other"),
        ('path = "embedded"', 'path = "./no/such/model"', "there is no such directory"),
        ('split = "clean"', 'split = "clean"\nlanguage = "German"', "key data.0.language: "),
        ('split = "clean"', 'split = "clean"\nlanguage = "de"', "embedded: it is in 'en', and data.language is 'de'"),
    ],
)
def test_mistakes_in_the_file(experiment_file, tmp_path, capsys, old, new, named):
    path = experiment_file(**{old: new})
    assert named in sentence_of(capsys, [path, "--out", tmp_path / "runs"])


@pytest.mark.parametrize("language", ["en", "English", "<|en|>"])
def test_english_has_several_names(experiment_file, language):
    assert configurations(load_experiment(experiment_file(**{"[decoding]": f'[decoding]\nlanguage = "{language}"'})))


def test_the_file_itself_is_missing(tmp_path, capsys):
    assert "no such experiment file" in sentence_of(capsys, [tmp_path / "nothing.toml"])


def test_only_must_match_something(experiment_file, capsys):
    path = experiment_file()
    assert "not one of" in sentence_of(capsys, [path, "--dry-run", "--only", "bit=4"])
    assert "write backend=VALUE" in sentence_of(capsys, [path, "--dry-run", "--only", "backend"])
    assert "bits is never 5; it is" in sentence_of(capsys, [path, "--dry-run", "--only", "bits=5"])
    assert "--list shows them" in sentence_of(capsys, [path, "--dry-run", "--only", "backend=hqq,scheme=none"])


def test_set_needs_a_value(experiment_file, capsys):
    assert "write key=value" in sentence_of(capsys, [experiment_file(), "--dry-run", "--set", "decoding"])


def test_a_model_directory_without_a_processor(experiment_file, tmp_path, capsys):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    path = experiment_file(**{'path = "embedded"': f'path = "{tmp_path}/model"'})
    assert "no processor" in sentence_of(capsys, [path, "--out", tmp_path / "runs"])


def test_an_output_directory_that_cannot_be_written(experiment_file, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert "choose another --out" in sentence_of(capsys, [experiment_file(), "--out", tmp_path / "file"])


FOLDER = {'dataset = "embedded"\nsplit = "clean"': 'dataset = "folder"\nroot = "{root}"'}


def folder(experiment_file, root):
    return experiment_file(**{key: value.format(root=root) for key, value in FOLDER.items()})


@pytest.mark.parametrize(
    ("metadata", "named"),
    [
        ("", "the transcript file is empty"),
        ("file_name,text\n", "the transcript file is empty"),
        ("file_name,words\na.wav,hello\n", "there is no column text; the first line has file_name, words"),
        (b"file_name,text\na.wav,caf\xe9\n", "cannot be read as UTF-8 text"),
        ("file_name,text\nmissing.wav,hello\n", "missing.wav: the audio file of utterance missing.wav is missing"),
    ],
)
def test_mistakes_in_a_folder(experiment_file, tmp_path, capsys, metadata, named):
    root = tmp_path / "speech"
    root.mkdir()
    (root / "metadata.csv").write_bytes(metadata if isinstance(metadata, bytes) else metadata.encode())
    assert named in sentence_of(capsys, [folder(experiment_file, root), "--out", tmp_path / "runs"])


def test_a_folder_without_metadata(experiment_file, tmp_path, capsys):
    sentence = sentence_of(capsys, [folder(experiment_file, tmp_path), "--out", tmp_path / "runs"])
    assert "metadata.csv, .tsv or .jsonl" in sentence


def test_an_empty_openslr_transcript(experiment_file, tmp_path, capsys):
    chapter = tmp_path / "test-clean" / "1" / "2"
    chapter.mkdir(parents=True)
    (chapter / "1-2.trans.txt").write_text("\n")
    openslr = f'dataset = "librispeech"\nsplit = "test-clean"\nroot = "{tmp_path}"'
    path = experiment_file(**{'dataset = "embedded"\nsplit = "clean"': openslr})
    assert "the transcript file is empty" in sentence_of(capsys, [path, "--out", tmp_path / "runs"])


def test_calibration_speech_is_never_test_speech(experiment_file, tmp_path, capsys):
    text = MINIMAL + '\n[calibration]\ndata = { dataset = "embedded", split = "clean" }\nutterances = 500\n'
    assert "shares utterances" in sentence_of(capsys, [experiment_file(text), "--out", tmp_path / "runs"])


def test_errors_are_of_our_own_tree(experiment_file):
    with pytest.raises(ConfigError):
        load_experiment(experiment_file(**{"bits = 4": "bits = true"}))


def test_only_takes_the_spellings_of_the_file(experiment_file, capsys):
    path = experiment_file()
    for only in ("granularity=per_group:64", "granularity=per_group", "symmetric=false", "bits=4|3,backend=hqq"):
        assert main([str(path), "--list", "--only", only]) == 0
        assert "hqq weight_only int4" in capsys.readouterr().out


def test_the_benchmark_inside_has_a_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["embedded", "--list"]) == 0
    assert "quanto weight_only int8 per_channel" in capsys.readouterr().out
    (tmp_path / "embedded").write_text("")
    assert main(["embedded", "--list"]) == 2  # a file of one's own
    assert "embedded" in capsys.readouterr().err


def test_only_takes_the_id_of_the_results(experiment_file, capsys):
    path = experiment_file()
    one = next(c for c in configurations(load_experiment(path)) if not c.is_baseline)
    assert main([str(path), "--list", "--only", f"id={one.id}"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line for line in listed if one.label in line]
    assert "id is never c0; it is" in sentence_of(capsys, [path, "--dry-run", "--only", "id=c0"])


def test_recordings_are_part_of_a_local_corpus_revision(tmp_path):
    import soundfile

    from harness import datasets
    from harness.experiment.tables import Data

    revisions = []
    for level in (0.1, 0.2):
        soundfile.write(tmp_path / "a.wav", [level] * 1600, 16000)
        (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.wav", "text": "one\u2028two"}\n')
        revisions.append(datasets.get("folder").load(Data(dataset="folder", root=str(tmp_path))).revision)
    assert revisions[0] != revisions[1]


def test_output_directories_may_have_any_name(experiment_file, tmp_path, capsys):
    out = tmp_path / 'bob\'s "runs"'
    arguments = [str(experiment_file()), "--out", str(out), "--only", "backend=none", "--workers", "1"]
    assert main(arguments) == 0
    assert (out / "t" / "results.csv").is_file()
