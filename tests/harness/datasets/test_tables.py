"""Users' tables: read as they stand, in every dialect that has one reading, or refused with row and mend."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import compare, datasets
from harness.datasets._table import read_csv
from harness.errors import ConfigError, DataError
from harness.experiment.tables import Data
from harness.records.transcripts import read_transcripts
from harness.resolution.identity import _check_different

ROWS = [("a.wav", "hello there", "ann"), ("b.wav", "well, yes", "bob")]


def load(tmp_path, name="folder", **data):
    return datasets.get(name).load(Data(dataset=name, root=str(tmp_path), **data))


def table(tmp_path, text, name="metadata.csv", recordings=("a.wav", "b.wav")):
    for number, recording in enumerate(recordings):
        (tmp_path / recording).write_bytes(bytes([number]))
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())


def read(tmp_path, **data):
    return [(u.id, u.text, u.speaker) for u in load(tmp_path, **data).utterances]


DIALECTS = {
    "comma": 'file_name,text,speaker\na.wav,hello there,ann\nb.wav,"well, yes",bob\n',
    "semicolon": "file_name;text;speaker\na.wav;hello there;ann\nb.wav;well, yes;bob\n",
    "tab": "file_name\ttext\tspeaker\na.wav\thello there\tann\nb.wav\twell, yes\tbob\n",
    "pipe": "file_name|text|speaker\na.wav|hello there|ann\nb.wav|well, yes|bob\n",
    "byte-order mark": '\ufefffile_name,text,speaker\na.wav,hello there,ann\nb.wav,"well, yes",bob\n',
    "carriage returns": 'file_name,text,speaker\r\na.wav,hello there,ann\r\nb.wav,"well, yes",bob\r\n',
    "no line feed at the end": 'file_name,text,speaker\na.wav,hello there,ann\nb.wav,"well, yes",bob',
    "blank lines": '\nfile_name,text,speaker\n\na.wav,hello there,ann\n\nb.wav,"well, yes",bob\n\n',
    "capitals": 'File_Name,Text,Speaker\na.wav,hello there,ann\nb.wav,"well, yes",bob\n',
    "words apart": 'File Name,Text,Speaker ID\na.wav,hello there,ann\nb.wav,"well, yes",bob\n',
    "transcription": 'file_name,transcription,speaker_id\na.wav,hello there,ann\nb.wav,"well, yes",bob\n',
    "sentence": 'path,sentence,client_id\na.wav,hello there,ann\nb.wav,"well, yes",bob\n',
    "other columns": 'id,text,length,speaker,file_name\n1,hello there,3,ann,a.wav\n2,"well, yes",4,bob,b.wav\n',
    "Excel's trailing comma": 'file_name,text,speaker,\na.wav,hello there,ann,\nb.wav,"well, yes",bob,\n',
    "everything in quotes": '"file_name","text","speaker"\n"a.wav","hello there","ann"\n"b.wav","well, yes","bob"\n',
}


@pytest.mark.parametrize("text", DIALECTS.values(), ids=DIALECTS)
def test_another_dialect_is_read(text, tmp_path):
    table(tmp_path, text)
    assert read(tmp_path) == ROWS


KEPT = {
    "quotes inside": ('a.wav,he said "hi" there\n', 'he said "hi" there'),
    "doubled quotes": ('a.wav,"he said ""hi"" there"\n', 'he said "hi" there'),
    "a line separator": ("a.wav,one\u2028two\n", "one\u2028two"),
    "a form feed": ("a.wav,one\x0ctwo\n", "one\x0ctwo"),
    "a next line": ("a.wav,one\x85two\n", "one\x85two"),
    "nothing": ("a.wav,\n", ""),
    "a name like a word for nothing": ("a.wav,none\n", "none"),
}


@pytest.mark.parametrize(("row", "text"), KEPT.values(), ids=KEPT)
def test_a_text_stays_as_it_is(row, text, tmp_path):
    table(tmp_path, f"file_name,text\n{row}", recordings=["a.wav"])
    assert read(tmp_path) == [("a.wav", text, None)]


HEAD = "file_name,text,speaker\n"
REFUSED = {
    "a comma that is not quoted": (
        HEAD + "a.wav,well, yes,ann\n",
        ["line 2", "4 fields", "heading 3", "double quotes"],
    ),
    "a field too few": (HEAD + "a.wav,hello\n", ["line 2", "2 fields", "heading 3"]),
    "an open quote": (HEAD + 'a.wav,"hello,ann\nb.wav,there,bob\n', ["line 2", "double quote is not closed"]),
    "a quote closed in the next line": (HEAD + 'a.wav,"hello\nb.wav,there",bob\n', ["line 2", "is not closed"]),
    "text behind a closed quote": (HEAD + 'a.wav,"hello" there,ann\n', ["line 2", "follows a closed one"]),
    "a doubled column": ("file_name,text,text\na.wav,hello,there\n", ["the column text is there twice"]),
    "a doubled column in capitals": ("file_name,text,Text\na.wav,hello,there\n", ["the column text is there twice"]),
    "two that could be meant": (
        "file_name,transcription,sentence\na.wav,hello,there\n",
        ["transcription and sentence could each be text", "call the one that is meant text"],
    ),
    "another name": ("file_name,texte\na.wav,hello\n", ["no column text; the first line has", "is 'texte' meant"]),
    "no heading": ("a.wav,hello\nb.wav,there\n", ["no column file_name; the first line has a.wav, hello"]),
    "several delimiters": ("file_name;text,speaker\na.wav;hello,ann\n", ["no column"]),
    "NaN": (HEAD + "a.wav,nan,ann\n", ["line 2", "text is nan, which stands for nothing"]),
    "something under an empty heading": ("file_name,text,\na.wav,hello,more\n", ["line 2", "'more'", "without a name"]),
    "a carriage return inside": (HEAD + "a.wav,hello\rthere,ann\n", ["line 2", "carriage return"]),
    "only delimiters": (HEAD + "a.wav,hello,ann\n,,\n", ["line 3", "file_name is empty"]),
    "the same recording twice": (HEAD + "a.wav,hello,ann\na.wav,there,ann\n", ["'a.wav' occurs twice"]),
    "the same recording by another path": (HEAD + "a.wav,hi,ann\n./a.wav,ho,ann\n", ["are one recording"]),
    "a recording that is not there": (HEAD + "c.wav,hello,ann\n", ["c.wav", "is missing"]),
    "another encoding": ("file_name,text\na.wav,caf\xe9\n".encode("latin-1"), ["UTF-8"]),
    "UTF-16": ("file_name,text\na.wav,hello\n".encode("utf-16"), ["UTF-8"]),
    "nothing at all": ("", ["is empty"]),
    "a heading alone": (HEAD, ["is empty"]),
}


@pytest.mark.parametrize(("text", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_would_be_guessed_is_refused_with_its_row(text, sentence, tmp_path):
    table(tmp_path, text)
    with pytest.raises(DataError) as refused:
        load(tmp_path)
    assert all(piece in str(refused.value) for piece in sentence), refused.value
    assert "\n" not in str(refused.value)


JSON = {
    "NaN": ('{"file_name": "a.wav", "text": NaN}', ["line 1", "text is NaN, not text"]),
    "true": ('{"file_name": "a.wav", "text": true}', ["text is true, not text"]),
    "a number": ('{"file_name": "a.wav", "text": 12}', ["text is 12, not text"]),
    "a list": ('{"file_name": "a.wav", "text": []}', ["text is [], not text"]),
    "null": ('{"file_name": "a.wav", "text": null}', ["no column text"]),
    "a doubled key": ('{"file_name": "a.wav", "text": "one", "text": "two"}', ["the key text is there twice"]),
    "a speaker that is a list": ('{"file_name": "a.wav", "text": "one", "speaker": [1]}', ["speaker is [1]"]),
    "a speaker that is true": ('{"file_name": "a.wav", "text": "one", "speaker": true}', ["speaker is true"]),
    "no object": ('["a.wav", "one"]', ["no JSON object"]),
    "cut off": ('{"file_name": "a.wav", "text": "on', ["line 1", "not JSON"]),
}


@pytest.mark.parametrize(("line", "sentence"), JSON.values(), ids=JSON)
def test_values_that_are_not_text_are_refused(line, sentence, tmp_path):
    table(tmp_path, line, "metadata.jsonl")
    with pytest.raises(DataError) as refused:
        load(tmp_path)
    assert all(piece in str(refused.value) for piece in sentence), refused.value


def test_a_number_is_a_speaker(tmp_path):
    lines = [{"file_name": "a.wav", "text": "one", "speaker": 0}, {"audio": "b.wav", "sentence": "two", "spk": None}]
    table(tmp_path, "\n".join(map(json.dumps, lines)), "metadata.jsonl")
    assert read(tmp_path) == [("a.wav", "one", "0"), ("b.wav", "two", None)]


def test_two_tables_are_refused(tmp_path):
    table(tmp_path, DIALECTS["comma"])
    table(tmp_path, '{"file_name": "a.wav", "text": "one"}', "metadata.jsonl")
    with pytest.raises(DataError, match="take away the one that is not meant"):
        load(tmp_path)


def test_a_split_that_is_not_there_is_not_the_whole_folder(tmp_path):
    table(tmp_path, DIALECTS["comma"])
    (tmp_path / "clean").mkdir()
    with pytest.raises(DataError, match=r"no split 'noisy' \(there are: clean\); leave split out"):
        load(tmp_path, split="noisy")
    assert read(tmp_path) == ROWS


def test_one_test_set_under_two_names_is_refused(tmp_path):
    table(tmp_path, DIALECTS["comma"])
    (tmp_path / "copy").mkdir()
    table(tmp_path / "copy", DIALECTS["semicolon"])
    own, other = Data(dataset="folder", root=str(tmp_path)), Data(dataset="folder", root=str(tmp_path), split="copy")
    corpora = {data: datasets.get("folder").load(data) for data in (own, other)}
    with pytest.raises(ConfigError, match="test and copy are the same recordings"):
        _check_different(corpora)


WORD = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0"), min_size=1, max_size=12)


@given(
    texts=st.lists(st.one_of(WORD, st.sampled_from(['"', '""', ",", '"a', 'b"', " ", "a,b", ";", "|"])), max_size=5),
    delimiter=st.sampled_from(",;|\t"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_every_table_that_was_written_well_is_read_back(tmp_path_factory, texts, delimiter, quoting):
    path = tmp_path_factory.getbasetemp() / "written.csv"
    written = io.StringIO()
    writer = csv.writer(written, delimiter=delimiter, quoting=quoting, lineterminator="\n")
    writer.writerows([("file_name", "text"), *((f"{i}.wav", text) for i, text in enumerate(texts))])
    path.write_text(written.getvalue(), encoding="utf-8", newline="")
    assert [record.fields["text"] for record in read_csv(path)] == texts


def sentence_of(path):
    """Why a table is refused; nothing where it is read."""
    try:
        read_csv(path)
    except DataError as refused:
        return str(refused)
    return ""


@given(lines=st.lists(st.text(st.sampled_from('ab ,;|\t"\u2028\x0c\r'), max_size=14), max_size=6))
def test_a_table_of_any_kind_is_read_line_by_line_or_refused(tmp_path_factory, lines):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_text("file_name,text\n" + "\n".join(lines), encoding="utf-8", newline="")
    sentence = sentence_of(path)
    assert "\n" not in sentence
    assert sentence or len(read_csv(path)) == sum(bool(line.strip()) for line in lines)


@given(data=st.binary(max_size=200))
def test_bytes_of_any_kind_end_in_rows_or_one_sentence(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "bytes.csv"
    path.write_bytes(b"file_name,text\n" + data)
    assert "\n" not in sentence_of(path)


def test_common_voice_has_quotes_as_letters(tmp_path):
    (tmp_path / "clips").mkdir()
    for name in ("a.mp3", "b.mp3"):
        (tmp_path / "clips" / name).write_bytes(name.encode())
    heading = "client_id\tpath\tsentence_id\tsentence\tup_votes\n"
    rows = 'ann\ta.mp3\t1\t"Hello, she said.\t2\nbob\tb.mp3\t2\tWell.\t0\n'
    (tmp_path / "test.tsv").write_text(heading + rows)
    found = load(tmp_path, "common_voice").utterances
    assert [(u.id, u.text, u.speaker) for u in found] == [
        ("a.mp3", '"Hello, she said.', "ann"),
        ("b.mp3", "Well.", "bob"),
    ]
    assert found[0].audio == tmp_path / "clips" / "a.mp3"
    (tmp_path / "test.tsv").write_text(heading + "ann\ta.mp3\t1\tHello\tthere\t2\n")
    with pytest.raises(DataError, match=r"line 2: it has 6 fields and the heading 5"):
        load(tmp_path, "common_voice")
    with pytest.raises(DataError, match="splits there: test"):
        load(tmp_path, "common_voice", split="dev")


def test_kaldi_directories(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"1")
    (tmp_path / "wav.scp").write_text("u1 a.wav\n")
    (tmp_path / "text").write_text("u1 hello there\n")
    (tmp_path / "utt2spk").write_text("u1 ann\n")
    assert read_of(load(tmp_path, "kaldi")) == [("u1", "hello there", "ann")]
    (tmp_path / "utt2lang").write_text("u1 de-AT\n")
    assert [utterance.language for utterance in load(tmp_path, "kaldi").utterances] == ["de"]
    (tmp_path / "utt2lang").write_text("u1 German\n")
    with pytest.raises(DataError, match='utt2lang, u1: language is "German"; write its code'):
        load(tmp_path, "kaldi")
    (tmp_path / "utt2lang").unlink()
    (tmp_path / "text").write_text("u1 hello\nu2 there\n")
    with pytest.raises(DataError, match="lacks 1 of the utterances of text, such as u2"):
        load(tmp_path, "kaldi")
    (tmp_path / "text").write_text("u1 hello\nu1 there\n")
    with pytest.raises(DataError, match="line 2: u1 is there a second time"):
        load(tmp_path, "kaldi")
    (tmp_path / "text").write_text("u1 hello\n")
    (tmp_path / "wav.scp").write_text("u1 sph2pipe -f wav a.sph |\n")
    with pytest.raises(DataError, match="commands are not run here"):
        load(tmp_path, "kaldi")
    (tmp_path / "segments").write_text("u1 a 0.0 1.0\n")
    with pytest.raises(DataError, match="parts of recordings are not read here"):
        load(tmp_path, "kaldi")


def test_nemo_manifests(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"1")
    row = {"audio_filepath": "a.wav", "text": "hello there", "duration": 1.5, "speaker": 3}
    (tmp_path / "test_manifest.json").write_text(json.dumps(row) + "\n")
    assert read_of(load(tmp_path, "nemo")) == [("a.wav", "hello there", "3")]
    (tmp_path / "test_manifest.json").write_text(json.dumps(row | {"lang": "de", "spk": ""}))
    assert [utterance.language for utterance in load(tmp_path, "nemo").utterances] == ["de"]
    (tmp_path / "test_manifest.json").write_text(json.dumps(row | {"lang": "de", "locale": "fr"}))
    with pytest.raises(DataError, match="lang and locale could each be language"):
        load(tmp_path, "nemo")
    for change, sentence in (({"offset": 2.0}, "offset is 2.0"), ({"text": 7}, "text is 7, not text")):
        (tmp_path / "test_manifest.json").write_text(json.dumps(row | change))
        with pytest.raises(DataError, match=sentence):
            load(tmp_path, "nemo")
    with pytest.raises(DataError, match=r"no manifest of split 'dev'; files there: test_manifest.json"):
        load(tmp_path, "nemo", split="dev")


def read_of(corpus):
    return [(u.id, u.text, u.speaker) for u in corpus.utterances]


HYPOTHESES = {
    "a third field in some rows": ("u1\thello\nu2\tthere\tagain\n", ["line 2", "3 fields and the first line 2"]),
    "a row without its third field": ("u1\thello\tann\nu2\tthere\n", ["line 2", "2 fields and the first line 3"]),
    "a heading with a speaker": ("id\ttext\tspeaker\nu1\thello\n", ["line 2", "2 fields and the first line 3"]),
    "no tab in a line": ("u1\thello\nu2 there\n", ["line 2", "1 field"]),
    "an utterance twice": ("u1\thello\nu1\tthere\n", ["line 2", "a second time"]),
}


@pytest.mark.parametrize(("text", "sentence"), HYPOTHESES.values(), ids=HYPOTHESES)
def test_hypotheses_are_not_repaired(text, sentence, tmp_path):
    (tmp_path / "a.tsv").write_text(text)
    with pytest.raises(DataError) as refused:
        read_transcripts(tmp_path / "a.tsv")
    assert all(piece in str(refused.value) for piece in sentence), refused.value


def test_only_line_feeds_end_a_hypothesis(tmp_path):
    (tmp_path / "a.tsv").write_text("u1\tone\u2028two\r\nu2\tthree\x0cfour\r\n", newline="")
    assert [line.text for line in read_transcripts(tmp_path / "a.tsv").values()] == ["one\u2028two", "three\x0cfour"]


def test_a_table_that_is_refused_is_status_2(tmp_path, capsys):
    (tmp_path / "ref.tsv").write_text("u1\thello\n")
    (tmp_path / "a.tsv").write_text("u1\thello\nu2\tthere\tagain\n")
    assert compare.main(["--ref", str(tmp_path / "ref.tsv"), str(tmp_path / "a.tsv"), str(tmp_path / "ref.tsv")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
