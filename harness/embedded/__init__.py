"""The embedded benchmark: a small Whisper and synthesised speech that travel with the package.

`model/` and `speech/` are its result, MODEL_CARD.md describes them, and the private modules here
are the recipe that made them (`python -m harness.embedded.make`).
"""

from pathlib import Path

_HERE = Path(__file__).parent
MODEL_DIRECTORY = _HERE / "model"
MOONSHINE_DIRECTORY = _HERE / "moonshine"
SPEECH_DIRECTORY = _HERE / "speech"
EXPERIMENT = _HERE / "embedded.toml"
"""The benchmark as an experiment, which commands call `embedded`."""
MODELS = {"embedded": MODEL_DIRECTORY, "embedded-moonshine": MOONSHINE_DIRECTORY}
"""The models, by the path that an experiment gives."""
PLANTED = {"embedded-outliers": 20.0, "embedded-outliers-60": 60.0}
"""Outlier variants of the model, by the path that an experiment gives: how large their planted outliers are."""
