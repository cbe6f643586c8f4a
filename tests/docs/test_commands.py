"""Every command of the documentation is typed as shown, and prints what the page shows."""

import pytest

from tests.docs.page_shells import Desk
from tests.docs.pages import page_blocks, pages

TYPED_ELSEWHERE = {"docs/writing-plugins.md"}  # by test_writing_plugins.py
PAGES = [str(page) for page in pages() if str(page) not in TYPED_ELSEWHERE]
# Ten seconds and more each: .ci/run types them, `make test` does not.
LONG = {"docs/howto/broker.md", "docs/howto/find-out.md", "docs/howto/fleet.md", "docs/requests.md"}
WITH_COMMANDS = [page for page in PAGES if any(True for _ in page_blocks(page))]


@pytest.mark.timeout(300)  # a page has about twenty commands, each with its own limit
@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=pytest.mark.long) if page in LONG else page for page in WITH_COMMANDS]
)
def test_what_the_page_says_to_type_does_what_it_shows(page, tmp_path):
    desk = Desk(tmp_path)
    try:
        for block in page_blocks(page):
            for command in () if block.why_not else block.commands:
                desk.type(command)
    finally:
        desk.close()
