"""Whether a search finds the best of a published run, and what it looks at: its studies resampled, speaker by speaker.

    python -m experiments.benchmarks.search RUN MEGABYTES POINTS [WITHOUT] >> experiments/benchmarks/search.txt

A study has the speakers of a split drawn with replacement, in a random order, and of each speaker his utterances drawn
with replacement. `--max-size MEGABYTES` and `--max-loss POINTS` are searched for in it as `harness.search` does, with
its batches and defaults, among the quantized cells of the run; WITHOUT leaves out those whose name has this in it.

*In the study* is a winner that is at most the tolerance worse than the best one in the whole study, as the full grid
would find it; *in truth*, than the best one of the published cells, where the winner's published errors count. The full
grid's own choice stands beside it: what it misses is for the size of the test set. For a loss the best one is the
smallest within the limit, and a winner has to be so by the tolerance, and no larger than what is within by the
tolerance. *In turn the best* makes every cell the best one: those that are better in the whole study are left out.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.execution.racing import stages
from harness.records.reading import RecordedRun, open_run
from harness.resolution.batching import speaker_plan
from harness.stats.race import FEWEST_SPEAKERS, Goal, MostAccurate, Rules, SmallestWithin, rounds

STUDIES = 500
CONFIDENCE, TOLERANCE = 0.95, 0.003
BATCH = 16
BASELINE = "full precision float32"


@dataclass(frozen=True, eq=False)
class Split:
    """The cells of one split.

    Attributes:
        errors: of every cell by speaker and utterance, (speakers, utterances).
        words: of the references, (speakers, utterances).
        sizes: bytes of every cell's model.
    """

    errors: Mapping[str, np.ndarray]
    words: np.ndarray
    sizes: Mapping[str, int]

    @property
    def names(self) -> list[str]:
        """Of the quantized cells, the smallest first."""
        return sorted((name for name in self.errors if name != BASELINE), key=lambda name: self.sizes[name])

    def study(self, rng: np.random.Generator) -> Study:
        """Speakers and utterances drawn anew."""
        speakers, utterances = self.words.shape
        who = rng.integers(speakers, size=speakers)[:, None]
        which = rng.integers(utterances, size=(speakers, utterances))
        errors = {name: own[who, which].sum(1) for name, own in self.errors.items()}
        return Study(errors, self.words[who, which].sum(1))

    def whole(self) -> Study:
        """As it was published."""
        return Study({name: own.sum(1) for name, own in self.errors.items()}, self.words.sum(1))


@dataclass(frozen=True, eq=False)
class Study:
    """Errors of every cell and words of the references by speaker, (speakers,) each."""

    errors: Mapping[str, np.ndarray]
    words: np.ndarray

    def loss(self, name: str) -> float:
        """WER minus full precision's, a fraction."""
        return float((self.errors[name] - self.errors[BASELINE]).sum() / self.words.sum())


@dataclass(frozen=True)
class Asked:
    """What is searched for: the fewest errors among `candidates`, or the smallest within `limit` (a fraction)."""

    candidates: Sequence[str]
    sizes: Mapping[str, int]
    limit: float | None = None

    def goal(self, study: Study, looks: Sequence[int]) -> Goal:
        """The race in a study."""
        rules = Rules(study.words, tuple(looks), len(self.candidates), CONFIDENCE, TOLERANCE)
        if self.limit is None:
            return MostAccurate(rules)
        baselines = dict.fromkeys(self.candidates, study.errors[BASELINE])
        return SmallestWithin(rules, baselines, self.sizes, self.limit)

    def best(self, study: Study) -> str | None:
        """What the full grid chooses."""
        if self.limit is None:
            return min(self.candidates, key=study.loss)
        within = (name for name in self.candidates if study.loss(name) <= self.limit)
        return min(within, key=lambda name: (self.sizes[name], study.loss(name)), default=None)

    def is_good(self, winner: str | None, study: Study) -> bool:
        """Whether a winner is as good as the best one of a study, within the tolerance."""
        if self.limit is None:
            return winner is not None and study.loss(winner) <= min(map(study.loss, self.candidates)) + TOLERANCE + 1e-9
        inside = [self.sizes[n] for n in self.candidates if study.loss(n) <= self.limit - TOLERANCE]
        if winner is None:
            return not inside
        return study.loss(winner) <= self.limit + TOLERANCE and self.sizes[winner] <= min(inside, default=np.inf)


def searched(asked: Asked, study: Study, looks: Sequence[int]) -> tuple[str | None, dict[str, int], int]:
    """The winner; to how many speakers every candidate was brought, and how often one was quantized."""
    seen: dict[str, int] = {}
    quantized = 0

    def fetch(names: Sequence[str], look: int) -> Mapping[str, np.ndarray]:
        nonlocal quantized
        quantized += len(names)
        seen.update(dict.fromkeys(names, look))
        return {name: study.errors[name] for name in names}

    last = list(rounds(asked.goal(study, looks), asked.candidates, fetch))[-1]
    return last.standing.leader, seen, quantized


def split_of(run: RecordedRun, label: str, without: str | None) -> Split:
    """The finished cells of a split; every speaker has as many utterances as the one with fewest."""
    rows = [row for row in run.results() if row["status"] == "done" and row["split"] == label]
    rows = [row for row in rows if not without or without not in row["configuration"]]
    found: dict[str, np.ndarray] = {}
    words: dict[str, np.ndarray] = {}
    for row in rows:
        by_speaker: dict[str, list[tuple[str, int, int]]] = {}
        for u in run.utterances(row["cell_id"]):
            errors = u["substitutions"] + u["deletions"] + u["insertions"]
            by_speaker.setdefault(u["speaker"], []).append((u["id"], errors, u["reference_words"]))
        fewest = min(map(len, by_speaker.values()))
        table = np.array([[u[1:] for u in sorted(by_speaker[name])[:fewest]] for name in sorted(by_speaker)])
        found[row["configuration"]], words[row["configuration"]] = table[..., 0], table[..., 1]
    return Split(found, words[BASELINE], {row["configuration"]: row["size_bytes"] for row in rows})


def looks_at(split: Split) -> list[int]:
    """After how many speakers, with batches as a run makes them."""
    speakers = [[f"{i}-{j}" for j in range(split.words.shape[1])] for i in range(len(split.words))]
    rng = np.random.default_rng(0)
    plan = speaker_plan(speakers, {name: rng.random() for own in speakers for name in own}, BATCH)
    return list(stages(speakers, plan))


def simulate(title: str, asked: Asked, split: Split) -> None:
    """Search in many studies and print how it goes."""
    looks, whole, rng = looks_at(split), split.whole(), np.random.default_rng(0)
    good = np.zeros((STUDIES, 4))
    cost, often = np.zeros(STUDIES), np.zeros(STUDIES)
    for index in range(STUDIES):
        study = split.study(rng)
        winner, seen, quantized = searched(asked, study, looks)
        grid = asked.best(study)
        good[index] = [asked.is_good(w, s) for s in (study, whole) for w in (winner, grid)]
        cost[index] = (len(study.words) + sum(seen.values())) / (len(study.words) * len(split.errors))
        often[index] = quantized + len(split.names) - len(asked.candidates)
    best = asked.best(whole)
    what = "none" if best is None else f"{best}, {split.sizes[best] / 1e6:.2f} MB, {100 * whole.loss(best):+.2f} points"
    mine, _, mine_true, grid_true = good.mean(0)
    print(f"{title}: {len(asked.candidates)} of {len(split.names)} race; the best: {what}")
    print(f"  good in the study {mine:.1%}; in truth {mine_true:.1%}, the full grid's choice {grid_true:.1%}")
    average, nearly, most = cost.mean(), np.quantile(cost, 0.95), cost.max()
    print(f"  {average:.1%} of the full grid's utterances, at most {nearly:.1%} in 95 % of studies, {most:.1%} in all")
    print(f"  quantized {often.mean():.0f} times, the full grid {len(split.names)}")


def in_turn(split: Split) -> None:
    """Make every cell the best one, and print how often the search errs."""
    looks, rng = looks_at(split), np.random.default_rng(1)
    wrong: dict[str, list[bool]] = {name: [] for name in split.names}
    for _ in range(STUDIES):
        study = split.study(rng)
        for name in split.names:
            left = [other for other in split.names if study.loss(other) >= study.loss(name)]
            asked = Asked(left, split.sizes)
            wrong[name].append(not asked.is_good(searched(asked, study, looks)[0], study))
    shares = {name: float(np.mean(own)) for name, own in wrong.items()}
    worst = max(shares, key=lambda name: shares[name])
    average = np.mean(list(shares.values()))
    print(f"in turn the best: wrong in {average:.1%} of studies on average, at most in {shares[worst]:.1%}")
    print(f"  ({worst}, {100 * split.whole().loss(worst):+.1f} points)")


def main(path: str, megabytes: str, points: str, without: str | None = None) -> None:
    """Print the shares for every split with enough speakers."""
    run = open_run(Path(path))
    aside = f", without {without!r}" if without else ""
    print(f"{path}{aside}: {STUDIES} studies, confidence {CONFIDENCE:g}, tolerance {100 * TOLERANCE:g} points")
    for label in dict.fromkeys(row["split"] for row in run.results()):
        split = split_of(run, label, without)
        if len(split.words) < 2 * FEWEST_SPEAKERS:
            print(f"\n{label}: {len(split.words)} speakers, too few for more than one round")
            continue
        looks = ", ".join(map(str, looks_at(split)))
        print(f"\n{label}: {len(split.words)} speakers, rounds of {looks}; {len(split.names)} quantized cells", end="")
        print(f" of {split.sizes[split.names[0]] / 1e6:.2f} to {split.sizes[split.names[-1]] / 1e6:.2f} MB")
        small = [name for name in split.names if split.sizes[name] <= float(megabytes) * 1e6]
        simulate(f"--max-size {megabytes}MB", Asked(small, split.sizes), split)
        simulate(f"--max-loss {points}", Asked(split.names, split.sizes, float(points) / 100), split)
        in_turn(split)


if __name__ == "__main__":
    main(*sys.argv[1:])
