"""The test that types the pages fails when a page is wrong."""

import pytest

from tests.docs.page_shells import Desk
from tests.docs.pages import Block, Command, blocks


@pytest.fixture
def typed(tmp_path):
    def typed(page, setup=""):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        desk = Desk(folder)
        try:
            for block in blocks(page, setup):
                for command in () if block.why_not else block.commands:
                    desk.type(command)
        finally:
            desk.close()
        return folder

    return typed


def session(text):
    return f"```console\n{text}\n```\n"


@pytest.mark.parametrize(
    "text",
    [
        "$ echo one\ntwo",
        "$ echo one\none\ntwo",
        "$ printf 'one\\ntwo\\n'\none",
        "$ false",
        "$ nosuchcommand",
        "$ false && true",
        "$ echo one &\ntwo",
    ],
)
def test_a_wrong_page_fails(text, typed):
    with pytest.raises(AssertionError):
        typed(session(text))


@pytest.mark.parametrize(
    "text",
    [
        "$ echo one\none",
        "$ echo one",
        "$ printf 'one\\ntwo\\nthree\\n'\none\n...",
        "$ printf 'one\\ntwo\\nthree\\n'\n...\nthr...",
        "$ cat <<END\none\nEND\none",
        "$ printf %s one \\\ntwo\nonetwo",
        "$ X=1\n$ echo $X\n1",
        "a$ echo one > file\nb$ scp a:file .\nb$ cat file\none",
        "$ (sleep 0; echo Ready; echo one; sleep 0) &\n$ wait\nReady\none",
    ],
)
def test_a_correct_page_passes(text, typed):
    typed(session(text))


def test_an_exit_code_is_what_the_setup_names(typed):
    typed(session("$ (exit 3)"), "# exit code 3: $ (exit 3)\n")
    with pytest.raises(AssertionError):
        typed(session("$ (exit 4)"), "# exit code 3: $ (exit 4)\n")


def test_a_block_with_a_reason_is_not_typed(typed):
    typed(session("$ false"), "# not typed, it fails: $ false\n")


def test_the_setup_of_a_block_is_typed_before_it(typed):
    typed(session("$ cat file\none"), "# before: $ cat file\necho one > file\n")
    with pytest.raises(AssertionError):
        typed(session("$ cat file\none"))


def test_each_machine_has_an_etc_of_its_own(typed):
    desk = typed(
        "```sh\n# on left\necho one > /etc/remaphore/file\n```\n" + session("right$ ls /etc/remaphore | wc -l\n0")
    )
    assert (desk / "left" / "etc" / "remaphore" / "file").read_text() == "one\n"


@pytest.mark.parametrize("setup", ["# exit code 1: $ true\n", "# before: $ false\ntrue\n# before: $ echo\ntrue\n"])
def test_a_mark_that_names_no_block_after_the_one_before_it_is_an_error(setup):
    with pytest.raises(AssertionError, match="no block of the page begins with this line"):
        list(blocks(session("$ echo") + session("$ false"), setup))


def test_blocks_of_other_languages_are_not_typed():
    assert list(blocks("```toml\na = 1\n```\n```sh\ntrue\n```\n")) == [Block(4, (Command(5, "", "true"),))]
