"""Statistics of results: paired comparisons, segment tests, multiplicity, and the effects of single factors.

numpy, scipy and statsmodels; works from stored utterances alone, and knows no model. Whatever is
resampled is resampled by *block*: a speaker, whose utterances succeed and fail together, or an
utterance where speakers are not known (Liu & Peng 2020, arXiv 1912.09508).
"""

from harness.stats.additive import Additive, Term, additive
from harness.stats.effects import Effect, Outcome, effects, unmatched, varying
from harness.stats.hallucinated import Hallucinated, MoreHallucinated, hallucinated, more_hallucinated
from harness.stats.interactions import interactions
from harness.stats.mapsswe import MatchedPairs, matched_pairs, segments
from harness.stats.paired import FEWEST_BLOCKS, MARGIN, Comparison, Difference, System, compare, difference, system
from harness.stats.resampling import CONFIDENCE, smallest_p
from harness.stats.sample import Sample, Transcribed
from harness.stats.study import AgainstBaseline, Study

__all__ = [
    "CONFIDENCE",
    "FEWEST_BLOCKS",
    "MARGIN",
    "Additive",
    "AgainstBaseline",
    "Comparison",
    "Difference",
    "Effect",
    "Hallucinated",
    "MatchedPairs",
    "MoreHallucinated",
    "Outcome",
    "Sample",
    "Study",
    "System",
    "Term",
    "Transcribed",
    "additive",
    "compare",
    "difference",
    "effects",
    "hallucinated",
    "interactions",
    "matched_pairs",
    "more_hallucinated",
    "segments",
    "smallest_p",
    "system",
    "unmatched",
    "varying",
]
