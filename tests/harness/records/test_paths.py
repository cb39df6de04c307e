"""What is published says nothing of where it was made."""

from pathlib import Path

import pytest

from harness.experiment.config import load_experiment
from harness.records._paths import Paths

HOME = Path.home()


@pytest.fixture
def paths(tmp_path):
    local = [f'path="{tmp_path}/a/tiny"', f'path="{tmp_path}/b/tiny"\nname="other"']
    models = [*local, 'path="openai/whisper-tiny"', 'path="~/small"']
    tables = "".join(f"[[model]]\n{model}\n" for model in models)
    (tmp_path / "x.toml").write_text(
        f'name = "x"\n{tables}[[data]]\ndataset = "folder"\nroot = "{tmp_path}/my speech"\n'
        '[run]\noutput = "~/results"\naddress = "ray://head.example.org:10001"\n'
        f'[[grid]]\nbackend = "hqq"\nbits = 4\nmodels = ["other"]\n'
    )
    experiment = load_experiment(tmp_path / "x.toml")
    return Paths(tmp_path / "runs" / "x", experiment), experiment


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/data/LibriSpeech/1-2-3.flac: the audio cannot be decoded", "1-2-3.flac: the audio cannot be decoded"),
        ("see ../shared/x and ~/notes.txt, or ~jo/x", "see x and notes.txt, or x"),
        ('File "/usr/lib/python3/torch.py", line 3', 'File "torch.py", line 3'),
        ("cannot open file:///srv/me/a.wav", "cannot open a.wav"),
        ("failed:/srv/me/a.wav", "failed:a.wav"),
        ("https://example.org/a/b and openai/whisper-tiny, 3/4, n / a, and/or", None),
        ("torch 2.13.0+cpu; int8/per_channel", None),
        (f"{HOME}/studies/x.toml", "studies/x.toml"),
    ],
)
def test_paths_are_cut_down_to_their_last_part(paths, text, expected):
    assert paths[0].text(text) == (text if expected is None else expected)


def test_known_directories_may_have_spaces(paths, tmp_path):
    assert paths[0].text(f"cannot read {tmp_path}/my speech/clean/1.ogg") == "cannot read clean/1.ogg"
    assert paths[0].text(f"cannot list {tmp_path}/my speech") == "cannot list my speech"


def test_arguments_of_a_command_lose_their_paths(paths, tmp_path):
    command = f"/opt/x/grid.py a.toml --out={tmp_path} --set 'run.output=\"/srv/my results\"' --only backend=hqq"
    kept = paths[0].command(command)
    assert kept.startswith("grid.py a.toml --out=")
    assert kept.endswith("--only backend=hqq")
    assert not any(local in kept for local in ("/opt", "/srv", str(tmp_path)))
    assert "example" not in paths[0].command("grid.py --set 'run.address=\"ray://head.example.org:1\"'")
    assert "head" not in paths[0].command("grid.py --set 'run.address=\"head:6379\"'")
    assert paths[0].command("an 'unclosed /srv/a") == "an 'unclosed a"


def test_an_experiment_keeps_hub_ids_and_tells_models_apart(paths):
    known, experiment = paths
    published = known.experiment(experiment)
    assert [model.path for model in published.model] == ["tiny", "tiny-2", "openai/whisper-tiny", "small"]
    assert published.grid[0].models == ["other"]
    assert [model.label for model in published.model] == [model.label for model in experiment.model]
    assert published.data[0].root is None
    assert (published.run.output, published.run.address) == ("runs", "auto")
    assert [known.model(model.path) for model in experiment.model] == [model.path for model in published.model]


def test_a_directory_of_noise_keeps_its_name_alone(tmp_path):
    (tmp_path / "x.toml").write_text(
        'name = "x"\nmodel = "embedded"\n[[data]]\ndataset = "embedded"\nsplit = "clean"\nnoise_db = 5\n'
        f'noise = "{tmp_path}/my kitchen"\n[[grid]]\nbackend = "hqq"\nbits = 4\n'
    )
    experiment = load_experiment(tmp_path / "x.toml")
    paths = Paths(tmp_path / "runs" / "x", experiment)
    (data,) = paths.experiment(experiment).data
    assert (data.noise, data.label) == ("my kitchen", experiment.data[0].label)
    assert paths.text(f"{tmp_path}/my kitchen/1.wav: it is empty") == "1.wav: it is empty"
