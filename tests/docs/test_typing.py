"""Pages are typed by something that notices when they are wrong."""

import pytest

from tests.docs.page_shells import Desk
from tests.docs.pages import Block, Command, blocks


@pytest.fixture
def typed(tmp_path):
    def typed(page):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        desk = Desk(folder)
        try:
            for block in blocks(page):
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
def test_a_page_that_is_wrong_is_told(text, typed):
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
def test_a_page_that_is_right_passes(text, typed):
    typed(session(text))


def test_an_exit_code_is_what_the_page_says(typed):
    typed("<!-- exit code: 3 -->\n" + session("$ (exit 3)"))
    with pytest.raises(AssertionError):
        typed("<!-- exit code: 3 -->\n" + session("$ (exit 4)"))


def test_what_has_a_reason_is_not_typed(typed):
    typed("<!-- not typed: it fails -->\n" + session("$ false"))


def test_what_is_typed_first_is_unseen_on_the_page(typed):
    typed("<!-- typed first:\necho one > file\n-->\n\n" + session("$ cat file\none"))


def test_each_machine_has_an_etc_of_its_own(typed):
    desk = typed(
        "```sh\n# on left\necho one > /etc/remaphore/file\n```\n" + session("right$ ls /etc/remaphore | wc -l\n0")
    )
    assert (desk / "left" / "etc" / "remaphore" / "file").read_text() == "one\n"


def test_a_mark_that_is_far_from_its_block_is_an_error():
    with pytest.raises(AssertionError, match="right before the block"):
        list(blocks("<!-- not typed: it fails -->\n\nText.\n\n" + session("$ false")))


def test_blocks_of_other_languages_are_nothing_to_type():
    assert list(blocks("```toml\na = 1\n```\n```sh\ntrue\n```\n")) == [Block(4, (Command(5, "", "true"),))]
