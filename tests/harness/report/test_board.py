"""A board of several runs: what is in it, and its filters in a browser."""

import pytest
from selenium.webdriver.common.by import By

from harness.report.__main__ import main
from harness.report.numbers import MINUS
from tests.harness.pages import HOSTILE, Reader, stored_run

STUDIES = ["experiments/results/study_tiny_en", "experiments/results/frontier_base"]


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    directory = tmp_path_factory.mktemp("board")
    assert (
        main([*STUDIES, str(stored_run(directory / "small")), "--board", "--out", str(directory / "board.html")]) == 0
    )
    return directory / "board.html"


def test_it_has_all_that_is_finished_and_text_stays_text(board):
    reader = Reader(board.read_text())
    shown = "".join(reader.text)
    assert HOSTILE in shown
    assert [tag for tag, _ in reader.elements].count("script") == 1
    rows = [attributes for tag, attributes in reader.elements if tag == "tr" and "data-model" in attributes]
    assert {row["data-model"] for row in rows} >= {"whisper-tiny.en", "whisper-base"}
    assert f"{len(rows)} results of 3 runs: study_tiny_en, frontier_base, small." in shown
    assert "4.60" in shown
    assert f"+0.03 [{MINUS}0.21, +0.26]" in shown


def test_mistakes_are_one_sentence(tmp_path, capsys):
    assert main(STUDIES) == 2
    assert "2 runs: a page is of one; --board makes one table of several" in capsys.readouterr().err
    nothing = stored_run(tmp_path / "nothing", failing=range(6))
    assert main([str(nothing), "--board"]) == 2
    assert "no configuration of these runs is finished" in capsys.readouterr().err


@pytest.mark.slow
def test_filters_and_the_largest_size(board, browser):
    browser.get(board.as_uri())
    sizes = [float(row.get_attribute("data-size")) for row in rows_of(browser)]
    browser.find_element(By.CSS_SELECTOR, '[data-filter="model"] input[value="whisper-tiny.en"]').click()
    assert {row.get_attribute("data-model") for row in rows_of(browser)} == {"whisper-base", "embedded"}
    browser.find_element(By.ID, "largest").send_keys("60")
    browser.find_element(By.TAG_NAME, "h1").click()
    assert all(float(row.get_attribute("data-size")) <= 60 for row in rows_of(browser))
    browser.find_element(By.CSS_SELECTOR, "button[type=reset]").click()
    assert len(rows_of(browser)) == len(sizes)


def rows_of(browser):
    return [row for row in browser.find_elements(By.CSS_SELECTOR, "#results tbody tr") if row.is_displayed()]
