"""The tables of the READMEs are what the published runs say."""

from experiments import readme


def test_the_tables_are_not_stale(capsys):
    assert readme.main(["--check"]) == 0, capsys.readouterr().err


def test_a_table_is_written_between_its_markers():
    text = "a\n<!-- one -->\nold\n<!-- /one -->\nb\n<!-- two -->\n<!-- /two -->\n"
    assert readme.replaced(text, "one", "| new |\n") == text.replace("old", "| new |")
    assert readme.replaced(text, "three", "| new |") == text
