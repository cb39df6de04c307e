"""References in five languages, scored by hand; and English, which scores as it did."""

import unicodedata
from pathlib import Path

import pytest

from harness.experiment.tables import Data, Decoding, Scoring, scorer_of
from harness.metrics import Normaliser, Scorer
from harness.metrics.loops import COMPRESSION_LIMIT, compression_ratio
from harness.records.reading import open_run

RESULTS = sorted(path.parent for path in Path("experiments/results").glob("*/published.json"))
BY_HAND = [
    # language, reference, hypothesis, alignment, code points that are wrong, of how many
    ("de", "Die Straße ist schön, oder?", "die straße ist schon oder", "CCCSC", 1, 25),
    ("de", "scho\N{COMBINING DIAERESIS}n [Lachen]", "Schön.", "C", 0, 5),
    ("hi", "मैं हिन्दी बोलता हूँ।", "मैं हिंदी बोलता हूं", "CSCS", 3, 20),
    ("ja", "今日は、いい天気ですね。", "今日わ いい天気です", "CCSCCCCCCD", 2, 10),
    ("th", "ที่นี่ดี", "ที่นี้ ดี", "CSC", 1, 8),
    ("tr", "IŞIK İSTANBUL'DA", "Işık, İstanbul'da!", "CCC", 0, 16),
    ("tr", "Işık İstanbul'da.", "ısık Istanbulda", "DSS", 3, 16),
    ("zh", "你好\N{ZERO WIDTH SPACE}世界", "你好世界人", "CCCCI", 1, 4),
]


@pytest.mark.parametrize(("language", "reference", "hypothesis", "alignment", "wrong", "characters"), BY_HAND)
def test_as_computed_by_hand(language, reference, hypothesis, alignment, wrong, characters):
    found = Scorer().scores(reference, hypothesis, language)
    assert found["alignment"] == alignment
    counts = [found[key] for key in ("substitutions", "deletions", "insertions", "reference_words")]
    assert counts == [*map(alignment.count, "SDI"), len(alignment) - alignment.count("I")]
    assert (found["character_errors"], found["reference_characters"]) == (wrong, characters)


def test_whispers_own_rule_cuts_words_at_their_marks():
    """Why it is not what other languages than English get: Hindi words fall apart, and Thai loses vowels and tones."""
    basic = Normaliser("whisper-basic")
    assert basic("हिन्दी") == "ह न द"
    assert Scorer("whisper-basic").scores("ที่นี่ดี", "ทำนองดี", "th")["normalised_reference"] == "ท น ด"
    assert basic("İyi") == "i yi"
    assert basic("Schön, l'eau!") == Normaliser("multilingual")("Schön, l'eau!") == "schön l eau"


def test_joiners_are_kept_and_other_format_characters_are_not():
    persian = "می\N{ZERO WIDTH NON-JOINER}خواهم"
    assert Normaliser("multilingual")(f"\N{RIGHT-TO-LEFT MARK}{persian}\N{SOFT HYPHEN}") == persian


def test_the_language_and_the_unit_of_the_data_set_decide():
    def of(scoring, data, language=None, decoding=None):
        scorer = scorer_of(scoring, Data(dataset="folder", **data), decoding or Decoding())
        return scorer.normaliser(language).name, scorer.unit(language)

    assert of(Scoring(), {}) == ("whisper-english", "word")
    assert of(Scoring(), {"language": "de"}) == ("multilingual", "word")
    assert of(Scoring(), {"language": "de"}, "yue") == ("multilingual", "character")
    assert of(Scoring(), {}, decoding=Decoding(language="japanese")) == ("multilingual", "character")
    assert of(Scoring(normalizer="none", error_unit="word"), {"language": "th"}) == ("none", "word")
    assert of(Scoring(), {"language": "en", "error_unit": "character"}) == ("whisper-english", "character")
    assert of(Scoring(), {"language": "ja", "normalizer": "whisper-basic"}) == ("whisper-basic", "character")
    assert of(Scoring(), {"language": "ja"}, decoding=Decoding(task="translate")) == ("whisper-english", "word")


def test_versions_name_what_changes_the_words():
    versions = {
        Normaliser(name, language=code).version for name in ("multilingual", "whisper-basic") for code in ("de", "tr")
    }
    assert len(versions) == 3
    assert all("transformers=" in version and "unicode=" in version for version in versions)


def test_repeated_characters_are_a_loop_and_a_sentence_is_none():
    said = "今日はとてもいい天気なので散歩に行きましょう"
    assert not Scorer().scores(said, said, "ja")["loop"]
    assert Scorer().scores(said, "今日は" * 7, "ja")["loop"] is True
    assert Scorer().scores(said, f"{said}{said}", "ja")["loop"] is True


@pytest.mark.skipif(not RESULTS, reason="nothing is published in experiments/results")
@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_published_english_scores_as_it_did(path):
    run = open_run(path)
    row = next(row for row in run.results() if row["status"] == "done")
    utterances = run.utterances(row["cell_id"])
    for key in ("substitutions", "deletions", "insertions", "reference_words"):
        assert sum(utterance[key] for utterance in utterances) == row[key]
    characters = sum(utterance["reference_characters"] for utterance in utterances)
    wrong = sum(utterance["character_errors"] for utterance in utterances)
    assert row["cer"] == (wrong / characters if characters else None)


HINDI = (
    "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है उन्हें बुद्धि और अन्तरात्मा की देन "
    "प्राप्त है और परस्पर उन्हें भाईचारे के भाव से बर्ताव करना चाहिए सभी को इस घोषणा में सन्निहित सभी अधिकारों और आज़ादियों को "
    "प्राप्त करने का हक़ है और इस मामले में जाति वर्ण लिंग भाषा धर्म राजनीति या अन्य विचार प्रणाली के आधार पर भेदभाव नहीं होगा"
)
"""Universal Declaration of Human Rights, from articles 1 and 2."""


def test_what_is_as_the_reference_is_no_loop_in_scripts_of_three_bytes_a_letter():
    assert compression_ratio(HINDI) > COMPRESSION_LIMIT
    assert not Scorer().scores(HINDI, HINDI, "hi")["loop"]
    assert Scorer().scores(HINDI, HINDI[: len(HINDI) // 2] + " भेदभाव नहीं" * 20, "hi")["loop"]


def test_decomposed_turkish_and_thai_vowels_are_read_as_they_are_seen():
    decomposed = unicodedata.normalize("NFD", "İstanbul ŞİŞLİ IŞIK")
    assert Normaliser("multilingual", language="tr")(decomposed) == "istanbul şişli ışık"
    assert Scorer().scores("ทำน้ำ", "ทำนำ", "th")["alignment"] == "CS"
    assert "composed" in Normaliser("multilingual", language="tr").version
    assert Normaliser("multilingual", language="th").version != Normaliser("multilingual", language="hi").version
