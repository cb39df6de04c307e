"""The page of a run: what is in it, and what a browser makes of it."""

import base64
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from harness.records.reading import open_run
from harness.report.__main__ import main
from harness.report.numbers import DASH
from harness.report.page import render
from harness.report.page._assets import embedded_json
from tests.harness.pages import HOSTILE, HOSTILE_WORD, PLANNED, Reader, stored_run


def page_of(run):
    assert main([str(run)]) == 0
    return (run / "report.html").read_text(encoding="utf-8")


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
    assert "choose another --out" in others[0]
    assert "name a file" in others[1]


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
    for part in (
        "full precision float32",
        "failed",
        "48 utterances",
        "8 speakers",
        "zero points included",
        "terms can be estimated",
    ):
        assert part in text
    assert not re.search(r"\b(nan|None|null|inf)\b", text.replace("none", ""), re.IGNORECASE)


def test_columns_that_are_empty_everywhere_are_left_out(page):
    headings = "".join(Reader(page).text)
    assert "bits per weight" in headings
    assert "step time ÷" not in headings
    assert "TBOP" not in headings


def test_published_pages_say_how_every_row_was_made_and_what_its_bytes_are():
    page = render(open_run(Path("experiments/results/frontier_tiny_en")))
    text = " ".join("".join(Reader(page).text).split())
    made = re.findall(r"python -m harness.grid experiments/frontier_tiny_en.toml --set \S+[^<]*? --only id=(\w+)", page)
    done = re.search(r"(\d+) done", text)[1]
    assert len(made) == int(done)
    assert "transformers 5.23.0, Python 3.11.7, AMD EPYC with 1 thread, 2026-11-26" in text
    assert "53% embedding, 32 bits" in text
    assert "57% embedding, 6.06 bits" in text


def test_the_chart_has_paired_intervals_and_published_points():
    run = open_run(Path("experiments/results/frontier_tiny_en"))
    data = json.loads(re.search(r'id="data">(.*?)</script>', render(run), re.DOTALL)[1])
    panel = data["chart"]["panels"][0]
    rows = {row["cell_id"]: row for row in run.results()}
    for cell in panel["cells"]:
        row = rows[cell["id"]]
        if row["backend"] == "none":
            assert cell["low"] is None
        else:
            assert cell["high"] - cell["wer"] == pytest.approx(100 * (row["difference_high"] - row["difference"]))
    published = [(point["label"].partition(" (")[0], point["size"], point["wer"]) for point in panel["published"]]
    assert published[0] == ("ggml Q8_0", 44.0, 5.72)
    assert len(published) == 4


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ({"splits": ("only",), "speakers": 1, "utterances": 4}, "With fewer than six the permutation test cannot"),
        ({"failing": range(6)}, "There is nothing to draw"),
        ({"failing": (0,)}, "has a full-precision baseline"),
        ({"chosen": PLANNED[:1]}, "Nothing can be said yet"),
        ({"chosen": PLANNED[:2]}, "so no effect can be told"),
    ],
)
def test_meagre_runs(shape, expected, tmp_path):
    assert expected in " ".join("".join(Reader(page_of(stored_run(tmp_path, **shape))).text).split())


@pytest.mark.slow
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


@pytest.fixture
def opened(browser, run, page):
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.get((run / "report.html").as_uri())
    WebDriverWait(browser, 30).until(marks)  # they are drawn with the first frame, which may come after the load
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


def test_every_mark_can_be_pointed_at(opened):
    pointed = opened.execute_script(
        "return [...document.querySelectorAll('.mark')].map(mark => {"
        "const box = mark.querySelector('.shape').getBoundingClientRect();"
        "const at = {clientX: box.x + box.width / 2, clientY: box.y + box.height / 2, bubbles: true};"
        "mark.ownerSVGElement.dispatchEvent(new PointerEvent('pointermove', at));"
        "return [document.querySelector('.tooltip strong').textContent, mark.getAttribute('aria-label')]; })"
    )
    assert len(pointed) == 10
    assert all(label.startswith(f"{shown};") for shown, label in pointed)


def test_marks_are_chosen_by_key_and_by_pointer(opened):
    def chosen():
        return opened.find_element(By.CSS_SELECTOR, "#results tr[aria-selected]").get_attribute("data-cell")

    opened.execute_script("document.querySelector('.mark[tabindex=\"0\"]').focus()")
    opened.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert "WER, %" in opened.find_element(By.CSS_SELECTOR, ".tooltip").text
    opened.switch_to.active_element.send_keys(Keys.ENTER)
    by_key = opened.switch_to.active_element.get_attribute("data-cell")
    assert chosen() == by_key
    last = marks(opened)[-1]
    opened.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", last)
    last.click()
    assert chosen() == last.get_attribute("data-cell") != by_key


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
    drawn = opened.find_element(By.ID, "panels").get_attribute("innerHTML")
    assert "NaN" not in drawn
    assert ("↑" in drawn) == (scale in ("near", "close"))


def test_errors_are_drawn_against_speed_where_it_was_measured(opened):
    Select(opened.find_element(By.ID, "scale")).select_by_value("all")
    Select(opened.find_element(By.ID, "across")).select_by_value("speed")
    shown = opened.execute_script(
        "return [...document.querySelector('#panels figure').querySelectorAll('.mark .shape')].map("
        "shape => [shape.closest('.mark').getAttribute('aria-label'), shape.getBoundingClientRect().x])"
    )
    assert [re.search(r"RTFx, timed: ([0-9.]+)", label)[1] for label, _ in shown] == ["10.0", "10.0", "20.0"]
    assert shown[0][1] < shown[2][1]
    panels = opened.find_element(By.ID, "panels")
    assert "seconds of audio per second" in panels.text
    assert "NaN" not in panels.get_attribute("innerHTML")


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
