"""The tables of an experiment file that say which model, which speech, how it is decoded and where the work is done."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from backends.core.generation import language_code
from harness.experiment.base import Several, Table
from harness.experiment.conditions import KEYS, Condition, combinations
from harness.metrics import AUTO, Scorer

DETECT = "detect"
"""In the place of a language: the model finds it out."""
Normalizer = Literal["auto", "whisper-english", "whisper-basic", "multilingual", "none"]
ErrorUnit = Literal["auto", "word", "character"]


def is_local(path: str) -> bool:
    """Whether a model's path leads out of the working directory; all else is an id of the hub, or begins there."""
    return path.startswith(("/", "~", "./", "../"))


class Model(Table):
    """A recogniser.

    Attributes:
        path: where it lies: `embedded`, `embedded-moonshine` or an outlier variant (`embedded-outliers`), a local
            directory, or a repository on the hub such as `openai/whisper-small`.
        name: what results, `[[published]]`, `models` and claims call it; without it the `path`, of which the last part
            where it begins with `/`, `~` or `.`.
        revision: of a hub repository; a commit, tag or branch.
        dtype: in which it is loaded, and relative to which `size_reduction` is reported.
        published_dtype: in which its weights were published, relative to which `size_reduction_published` is
            reported; without it the narrowest that holds every weight bit for bit.
        license: shown in the plan, for models that are not free of conditions.
    """

    path: str
    name: str | None = None
    revision: str | None = None
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    published_dtype: Literal["float32", "float16", "bfloat16"] | None = None
    license: str = ""

    @property
    def label(self) -> str:
        """What results call it."""
        return self.name or (PurePath(self.path).name if is_local(self.path) else self.path)


_Speed = Annotated[float, Field(ge=0.25, le=4)]
_Padding = Annotated[float, Field(ge=0, le=600)]
_Reverb = Annotated[float, Field(ge=0, le=10)]
_Length = Annotated[float, Field(gt=0, le=7200)]
_Ratio = Annotated[float, Field(ge=-100)]
_Noise = Annotated[str, Field(min_length=1)]
_Gain = Annotated[float, Field(ge=-100, le=100)]


class Data(Table):
    """A test set.

    Attributes:
        dataset: a built-in corpus (`embedded`, `librispeech`, `folder`) or a plug-in's.
        split: such as `test-clean`; the corpus says which it has.
        name: what the results call it; the split, unless two entries have the same.
        root: local directory of the corpus; without it, a corpus that has one is taken from the hub.
        revision: of the hub's data set.
        limit: only so many utterances: a sample that is balanced over speakers, drawn with `seed`.
        seed: of that draw, of the order in which utterances are joined, and of noises and rooms.
        max_seconds: only utterances of at most so many seconds as they are recorded; none is cut.
        alignments: NIST CTM file, or a directory of such, with the times of all words: what stands between two pauses
            of at least .2 s is an utterance of its own, and `limit` and `max_seconds` are of these.
        join_seconds: joins utterances, of all speakers in random order, to recordings of so many seconds, with half a
            second of silence between two; with a list, the test set is taken in each length.
        speed: so many times as fast, pitch with it. With lists here and below, the test set is taken under every
            combination.
        pad_seconds: so much digital silence before the speech and as much behind it.
        reverb: a room in which sound falls by 60 dB in so many seconds; 0 is none.
        noise_db: adds noise that lies so many dB below the level of the active speech; `inf` adds none.
        noise: its kind: `white`, `pink`, `hum` (of mains), `babble` (six other utterances of the split, by other
            speakers), or a directory of recordings.
        gain_db: makes it louder; what goes beyond full scale is clipped.
        telephone: sampled at 8 kHz and coded in 8 bits (mu-law).
        language: which is spoken, a code such as `hi`; it is forced on multilingual checkpoints. `detect` leaves it to
            the model, where the corpus says itself what is spoken. Without it, it is the corpus's, a row's, or
            `decoding.language`.
        normalizer, error_unit: as in `[scoring]`, for this test set.
    """

    dataset: str
    split: str = "test"
    name: str | None = None
    root: str | None = None
    revision: str | None = None
    limit: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0)
    max_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    alignments: str | None = Field(default=None, min_length=1)
    join_seconds: _Length | Several[_Length] | None = None
    speed: _Speed | Several[_Speed] = 1.0
    pad_seconds: _Padding | Several[_Padding] = 0.0
    reverb: _Reverb | Several[_Reverb] = 0.0
    noise_db: _Ratio | Several[_Ratio] | None = None
    noise: _Noise | Several[_Noise] = "white"
    gain_db: _Gain | Several[_Gain] = 0.0
    telephone: bool | Several[bool] = False
    language: str | None = Field(default=None, pattern=r"^([a-z]{2,3}|detect)$")
    normalizer: Normalizer | None = None
    error_unit: ErrorUnit | None = None

    @model_validator(mode="after")
    def _noise_of_some_level(self) -> Data:
        if self.noise_db is None and self.noise != "white":
            raise ValueError("noise says of which kind it is: say with noise_db how loud")
        return self

    @property
    def condition(self) -> Condition:
        """What is done to the recordings; each key has one value (see `multiplied`)."""
        return Condition(**{key: getattr(self, key) for key in KEYS})

    @property
    def test_set(self) -> str:
        """What it is called whatever the condition."""
        cut = "" if self.alignments is None else " cut at pauses"
        joined = "" if self.join_seconds is None else f" joined to {self.join_seconds:g} s"
        return f"{self.name or self.split}{cut}{joined}"

    @property
    def label(self) -> str:
        """What tables and results call this test set: its name, and its condition if there is one."""
        return " + ".join(filter(None, (self.test_set, self.condition.name)))

    def multiplied(self) -> list[Data]:
        """The test set in each of its lengths under each of its conditions, once."""
        lengths = self.join_seconds if isinstance(self.join_seconds, list) else [self.join_seconds]
        found = combinations({key: getattr(self, key) for key in KEYS})
        return list(
            dict.fromkeys(
                self.model_copy(update={**one, "join_seconds": length}) for one in found for length in lengths
            )
        )


class Decoding(Table):
    """How tokens are generated; the same for all cells.

    Attributes:
        strategy: `plain` generation token by token, `draft` checks the transcript of full precision where that gives
            the same result, `auto` takes the faster of the two. It changes no transcript.
        batch_size: utterances per planned batch; `auto` is what memory allows, chosen once and kept with the run.
        batches: how utterances are put into batches: by `length`, or as blocks of whole `speakers` in a random order
            (of `run.seed`), by length within a block, so that a run can stop what is hopeless, and a search can race.
        num_beams: 1 is greedy.
        max_new_tokens: cap of an utterance.
        tokens_per_second: another cap of an utterance, by its length: so many tokens a second and two more. Without it
            Moonshine has 6.5, as on the Open ASR Leaderboard, and Whisper none.
        language: forced on multilingual Whisper checkpoints where the data does not say what is spoken; `detect` leaves
            it to the model, whatever the data says, and counts its errors.
        task: forced on multilingual Whisper checkpoints.
        long_audio: what happens to audio longer than the model's window: `truncate` cuts it, `sequential` decodes it
            window after window, `chunked` in windows that overlap by a third, each by itself, whose texts are joined
            where they meet (both for Whisper checkpoints with timestamps).
    """

    strategy: Literal["auto", "plain", "draft"] = "auto"
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = 16
    batches: Literal["length", "speakers"] = "length"
    num_beams: int = Field(default=1, ge=1)
    max_new_tokens: int = Field(default=225, ge=1)
    tokens_per_second: float | None = Field(default=None, gt=0)
    language: str = "en"
    task: Literal["transcribe", "translate"] = "transcribe"
    long_audio: Literal["truncate", "sequential", "chunked"] = "truncate"

    @property
    def code(self) -> str:
        """Of the language, however it is written; or `detect`."""
        return language_code(self.language)


class Scoring(Table):
    """How hypotheses are compared with references; the same for all models.

    Attributes:
        normalizer: `whisper-english`; `whisper-basic`, which has a space for every mark; `multilingual`, the same with
            marks kept; `none` compares words as they are. `auto` is the first for English, `multilingual` for others.
        error_unit: what is counted, `word` or `character`; `auto` counts characters in languages that do not separate
            words (zh, ja, th, lo, my, km, yue).
    """

    normalizer: Normalizer = "auto"
    error_unit: ErrorUnit = "auto"


def scorer_of(scoring: Scoring, data: Data, decoding: Decoding, spellings: bytes | None = None) -> Scorer:
    """How a test set is scored; what is translated is scored as English.

    Args:
        scoring, data, decoding: of an experiment.
        spellings: see `harness.metrics.Normaliser`.
    """
    normalizer, unit = data.normalizer or scoring.normalizer, data.error_unit or scoring.error_unit
    if decoding.task == "translate":
        normalizer = "whisper-english" if normalizer == AUTO else normalizer
        unit = "word" if unit == AUTO else unit
    language = next((code for code in (data.language, decoding.code) if code and code != DETECT), "en")
    return Scorer(normalizer, unit, language, spellings)


class Draw(NamedTuple):
    """What one calibration differs in from others of an experiment; see `Calibration`."""

    seed: int | None = None
    noise_db: float | None = None


NO_DRAW = Draw()


class Calibration(Table):
    """Speech that static ranges and methods that look at inputs are found on; never a test set of the experiment.

    Attributes:
        data: where it comes from.
        utterances: how many.
        seed: draws them at random; without one they are the first in the order of ids. With several, whatever
            calibrates is done once for each draw.
        noise_db: adds white noise at this ratio of signal to noise; without it the speech is as it is. With several,
            whatever calibrates is done once for each.
        teacher: whose words the decoder is forced to: those of the `reference`, or what the `model` in full
            precision transcribes itself.
        padding: whether padding counts in statistics. Utterances are joined until a window is full, so
            that there is little.
        batch_size: windows per forward.
    """

    data: Data
    utterances: int = Field(default=64, ge=1)
    seed: Annotated[int, Field(ge=0)] | Several[Annotated[int, Field(ge=0)]] | None = None
    noise_db: float | Several[float] | None = None
    teacher: Literal["reference", "model"] = "reference"
    padding: bool = False
    batch_size: int = Field(default=8, ge=1)

    @field_validator("data")
    @classmethod
    def _one_condition(cls, data: Data) -> Data:
        """The test sets are multiplied out; calibration speech has one condition, and `noise_db` beside it."""
        (one, *others) = data.multiplied()
        if others:
            raise ValueError("calibration speech has one condition: give its keys one value each")
        return one

    @property
    def draws(self) -> tuple[Draw, ...]:
        """Every seed with every noise; `None` for none."""
        seeds = self.seed if isinstance(self.seed, list) else [self.seed]
        noises = self.noise_db if isinstance(self.noise_db, list) else [self.noise_db]
        return tuple(Draw(seed, noise) for seed in seeds for noise in noises)

    def drawn(self, draw: Draw) -> Calibration:
        """The same with one seed and one noise."""
        return self.model_copy(update=draw._asdict())


class Stop(Table):
    """When a cell is ended before its time, because it is certainly much worse than its baseline.

    Attributes:
        worse_by: points of WER; a cell whose difference is within it is ended so in less than 5 % of all orders.
    """

    worse_by: float = Field(gt=0)


class Run(Table):
    """How the work is done; of all this only `threads_per_worker` and `seed` are part of a cell's identity.

    Attributes:
        output: directory under which `<name>/` is made.
        workers: processes at a time; 0 is one a core on the CPU, and one where a GPU is used.
        threads_per_worker: torch threads of each.
        device: `cpu`, `cuda`, or `auto` (cuda where there is one); a grid block may say otherwise.
        seed: recorded with every cell.
        stall_timeout: a configuration that finishes no batch for so many seconds is ended.
        lease_timeout: a runner on another machine that gave no sign of life for so many seconds counts as dead, and
            what it did is taken over (see `harness.records.leases`).
        engine: `local` processes, or `ray`: tasks on a cluster.
        address: of the cluster: `auto` (the one that this machine belongs to, or `RAY_ADDRESS`), `HOST:PORT`,
            `ray://HOST:PORT` from outside, or `local`, which starts one on this machine for as long as the run takes.
        stop: ends hopeless cells early (see `[run.stop]`); none are without it.
        encoder_cache_gb: GB for encoder states that configurations share, so that each encoder runs once;
            0 shares none.
        cpus: processors of a task on a cluster; 0 is `threads_per_worker`.
        gpus: GPUs of a task on a cluster that uses one; .25 lets four small models share one.
        memory_gb: GiB of memory that a task on a cluster keeps free for itself; 0 asks for none.
        ship_code: send this installation's code to the nodes, which then need what it imports only.
    """

    output: str = "runs"
    workers: int = Field(default=0, ge=0)
    threads_per_worker: int = Field(default=1, ge=1)
    device: Literal["cpu", "cuda", "auto"] = "auto"
    seed: int = 0
    stall_timeout: float = Field(default=3600.0, gt=0)
    lease_timeout: float = Field(default=120.0, gt=0)
    engine: Literal["local", "ray"] = "local"
    address: str = Field(default="auto", pattern=r"^(auto|local|(ray://)?[^\s/]+:\d{1,5})$")
    stop: Stop | None = None
    encoder_cache_gb: float = Field(default=4.0, ge=0)
    cpus: float = Field(default=0.0, ge=0)
    gpus: float = Field(default=1.0, gt=0)
    memory_gb: float = Field(default=0.0, ge=0)
    ship_code: bool = False

    @field_validator("gpus")
    @classmethod
    def _share_or_whole(cls, gpus: float) -> float:
        """Ray gives shares of one GPU, or several whole ones."""
        if gpus > 1 and not gpus.is_integer():
            raise ValueError("beyond one, GPUs are whole")
        return gpus
