"""The page of a run: what is in it, and what a browser makes of it."""

import base64
import json
import os
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from harness.cell import Cell, hash_of
from harness.config import Data, load_experiment
from harness.metrics import align
from harness.plan import configurations
from harness.report.__main__ import main
from harness.report.page._assets import embedded_json
from harness.report.page._numbers import DASH
from harness.results import result_rows
from harness.store import CellRecord, RunDirectory

PLANNED = configurations(load_experiment(Path("experiments/embedded.toml")))
HOSTILE = '<script>document.title="broken"</script></script>&"{{ 7 * 7 }}<!--\u2028'
HOSTILE_WORD = "".join(HOSTILE.split())
SENTENCES = (f"a {HOSTILE_WORD} b", "the cat sat down", "it is late now", "one two three four")
HEARD = ({}, {0: "x"}, {1: None}, {2: "three more"})
"""What a cell hears otherwise: words by their place; `None` is nothing."""


def utterance(number, speaker, changes):
    expected = SENTENCES[number % len(SENTENCES)].split()
    said = [changes.get(place, word) for place, word in enumerate(expected)]
    heard = " ".join(word for word in said if word is not None).split()
    steps = align(expected, heard)
    counts = {"substitutions": steps.count("S"), "deletions": steps.count("D"), "insertions": steps.count("I")}
    return {
        "id": f"u{number:03}",
        "speaker": speaker,
        "normalised_reference": " ".join(expected),
        "normalised_hypothesis": " ".join(heard),
        "alignment": steps,
        **counts,
        "reference_words": len(expected),
        "character_errors": sum(counts.values()),
        "reference_characters": 20,
        "empty": False,
        "loop": False,
    }


def record(cell, index, *, done, speakers, utterances):
    size = 20_000_000 // (1 + index % 4) + 1000 * index
    measured = {"size_bytes": size, "size_reduction": 0.5, "effective_bits": 8.1, "rtfx": float("nan")}
    status = {"status": "done" if done else "failed", "reason": "" if done else HOSTILE}
    identity = {"model": {"revision": "abc"}, "decoding": {"num_beams": 1}, "spec": {}}
    said = [utterance(i, f"s{i % speakers}", HEARD[(i + i // 4) * index % 4]) for i in range(utterances)]
    layer = {"name": f"layer{index}.{HOSTILE}", "kind": "linear", "requested": "int8", "effective": None}
    layer |= {"reason": HOSTILE, "effective_bits": 8.0, "weight_error": 0.01}
    return CellRecord(
        cell.cell_id,
        {"cell_id": cell.cell_id, **status, "identity": identity, "measured": measured if done else {}},
        said if done else (),
        [layer] if done else (),
        {"python": "3", "packages": {"torch": HOSTILE}},
    )


def stored_run(path, chosen=PLANNED[:6], splits=("clean", "other"), failing=(5,), speakers=8, utterances=48):
    directory = RunDirectory(path)
    cells = []
    for index, configuration in enumerate(chosen):
        for split in splits:
            cell_id = hash_of([index, split])
            cells.append(Cell(configuration, Data(dataset="embedded", split=split), {}, cell_id, ()))
            done = index not in failing
            directory.write(record(cells[-1], index, done=done, speakers=speakers, utterances=utterances))
    rows = result_rows(directory, cells)
    rows[len(rows) // 4]["configuration"] = f"cast {HOSTILE}"
    directory.write_results(rows)
    return path


def page_of(run):
    assert main([str(run)]) == 0
    return (run / "report.html").read_text(encoding="utf-8")


class Reader(HTMLParser):
    """The elements of a page, and its text outside scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self.within = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.within = tag

    def handle_data(self, data):
        if self.within not in ("script", "style"):
            self.text.append(data)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return stored_run(tmp_path_factory.mktemp("runs") / "small")


@pytest.fixture(scope="module")
def page(run):
    return page_of(run)


def test_the_command_writes_one_file_and_prints_its_path(run, tmp_path, capsys):
    assert main([str(run), "--out", str(tmp_path / "page.html")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'page.html'}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_mistakes_are_one_sentence(run, tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert main([str(run), "--out", str(tmp_path / "nowhere" / "page.html")]) == 2
    assert main([str(run), "--out", str(tmp_path)]) == 2
    first, *others = capsys.readouterr().err.splitlines()
    assert "run the experiment first" in first
    assert len(others) == 2
    assert all("choose another --out" in line for line in others)


def test_everything_is_in_the_page_and_nothing_is_fetched(page):
    elements = Reader(page).elements
    links = [attributes[name] for _, attributes in elements for name in ("src", "href") if name in attributes]
    assert set(links) <= {"data:,"} | {link for link in links if link.startswith("#")}
    assert not re.search(r"url\(|@import|\bimport\(|fetch\(", page)
    assert len(page.encode()) < 300_000


def test_text_stays_text(page):
    reader = Reader(page)
    assert [tag for tag, _ in reader.elements].count("script") == 2
    shown = "".join(reader.text)
    assert HOSTILE in shown
    assert "{{ 7 * 7 }}" in shown
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert HOSTILE_WORD in str(data["utterances"]["references"])


def test_the_data_block_keeps_values_and_refuses_what_is_no_number():
    values = {"a": HOSTILE, "b": [1.5, None, "\u2029"]}
    text = str(embedded_json(values))
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == values
    with pytest.raises(ValueError, match="not JSON compliant"):
        embedded_json(float("nan"))


def test_without_scripts_there_are_words_and_tables(page):
    text = " ".join("".join(Reader(page).text).split())
    for part in ("full precision float32", "failed", "48 utterances", "8 speakers", "zero points included", "R² ="):
        assert part in text
    assert not re.search(r"\b(nan|None|null|inf)\b", text.replace("none", ""), re.IGNORECASE)


def test_columns_that_are_empty_everywhere_are_left_out(page):
    headings = "".join(Reader(page).text)
    assert "bits per weight" in headings
    assert "RTFx" not in headings
    assert "TBOP" not in headings


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ({"splits": ("only",), "speakers": 1, "utterances": 4}, "With fewer than six the permutation test cannot"),
        ({"failing": range(6)}, "There is nothing to draw"),
        ({"failing": (0,)}, "has a full-precision twin"),
        ({"chosen": PLANNED[:1]}, "Nothing can be said yet"),
        ({"chosen": PLANNED[:2]}, "so no effect can be told"),
    ],
)
def test_meagre_runs(shape, expected, tmp_path):
    assert expected in " ".join("".join(Reader(page_of(stored_run(tmp_path, **shape))).text).split())


def test_many_rows_and_models(tmp_path):
    models = [
        replace(configuration, model=configuration.model.model_copy(update={"path": f"model-{number}"}))
        for number in range(4)
        for configuration in PLANNED[:20]
    ]
    page = page_of(stored_run(tmp_path, models, failing=(), speakers=3, utterances=6))
    assert page.count("<tr data-cell=") == 160
    assert "model-3 full precision" in page
    assert len(page) < 1_000_000


@pytest.fixture(scope="module")
def browser():
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        if "CI" in os.environ:
            pytest.fail("chromium and chromedriver are not installed")
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "window-size=1200,900"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(driver))
    yield started
    started.quit()


@pytest.fixture
def opened(browser, run, page):
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.get((run / "report.html").as_uri())
    return browser


def marks(browser):
    return browser.find_elements(By.CSS_SELECTOR, ".mark")


def shown_rows(browser):
    return browser.find_elements(By.CSS_SELECTOR, "#results tbody tr:not([hidden])")


def click(browser, selector):
    browser.execute_script("document.querySelector(arguments[0]).click()", selector)


def test_it_opens_from_a_file_without_errors_or_requests(opened):
    assert opened.get_log("browser") == []
    assert opened.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert "small" in opened.title
    assert len(marks(opened)) == 10


def test_hostile_text_is_not_run(opened):
    for section in ("layers", "utterances"):
        Select(opened.find_element(By.ID, f"{section}-of")).select_by_index(2)
    for shown in ("#layers-table", "#utterances-list", "#utterances-of", "#results"):
        assert "<script>" in opened.find_element(By.CSS_SELECTOR, shown).get_attribute("textContent")
    assert "broken" not in opened.title
    assert opened.execute_script("return document.scripts.length") == 2


def test_filters_hide_marks_and_rows(opened):
    before = len(shown_rows(opened))
    click(opened, '#filters input[value="torch_dynamic"]')
    assert len(marks(opened)) == 6
    assert len(shown_rows(opened)) == before - 4
    assert opened.find_element(By.ID, "shown").text == "8 of 12 rows"
    click(opened, "#filters [type=reset]")
    opened.execute_async_script("setTimeout(arguments[0], 20)")
    assert len(marks(opened)) == 10
    assert len(shown_rows(opened)) == before


def test_columns_sort_by_click_and_key(opened):
    heading = next(h for h in opened.find_elements(By.CSS_SELECTOR, "#results thead th") if h.text == "size, MB")
    column = heading.get_property("cellIndex")
    sizes = f"return [...document.getElementById('results').tBodies[0].rows].map(r => r.cells[{column}].textContent)"
    heading.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert heading.get_attribute("aria-sort") == "ascending"
    rising = opened.execute_script(sizes)
    numbers = [float(text) for text in rising if text != DASH]
    assert numbers == sorted(numbers)
    assert rising[-2:] == [DASH, DASH]
    heading.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert heading.get_attribute("aria-sort") == "descending"
    assert opened.execute_script(sizes)[:10] == rising[:10][::-1]
    assert opened.execute_script(sizes)[-2:] == [DASH, DASH]


def test_every_mark_can_be_reached_and_chooses_its_cell(opened):
    centres = opened.execute_script(
        "return [...document.querySelectorAll('.mark')].map(m => {"
        "m.scrollIntoView({block: 'center', behavior: 'instant'});"
        "const r = m.querySelector('.shape').getBoundingClientRect();"
        "const hit = document.elementFromPoint(r.x + r.width / 2, r.y + r.height / 2);"
        "return m.contains(hit); })"
    )
    assert all(centres)
    opened.execute_script("document.querySelector('.mark[tabindex=\"0\"]').focus()")
    opened.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert "WER, %" in opened.find_element(By.CSS_SELECTOR, ".tooltip").text
    opened.switch_to.active_element.send_keys(Keys.ENTER)
    chosen = opened.switch_to.active_element.get_attribute("data-cell")
    assert opened.find_element(By.CSS_SELECTOR, "#results tr[aria-selected]").get_attribute("data-cell") == chosen


def test_select_boxes_change_layers_and_utterances(opened):
    for section, shown in (("layers", "#layers-table"), ("utterances", "#utterances-list")):
        select = Select(opened.find_element(By.ID, f"{section}-of"))
        texts = []
        for option in (0, 1, len(select.options) - 1):
            select.select_by_index(option)
            texts.append(opened.find_element(By.CSS_SELECTOR, shown).text)
        assert texts[0] != texts[2]
    assert "The 30 largest of 36 changes" in texts[0]
    assert "identical" in texts[2]


@pytest.mark.parametrize("scale", ["near", "close", "all", "log"])
def test_axes(scale, opened):
    Select(opened.find_element(By.ID, "scale")).select_by_value(scale)
    assert len(marks(opened)) == 10
    assert "NaN" not in opened.find_element(By.ID, "panels").get_attribute("innerHTML")


def test_a_phone_never_scrolls_sideways(opened):
    metrics = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    opened.refresh()
    opened.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert opened.execute_script("return document.documentElement.scrollWidth") <= 360


def test_dark_and_printed(opened):
    def background():
        return opened.execute_script("return getComputedStyle(document.body).backgroundColor")

    light = background()
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    assert background() != light
    printed = base64.b64decode(opened.print_page())
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"} | dark)
    assert background() == light
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    assert printed.startswith(b"%PDF")
    assert len(printed) > 20_000
