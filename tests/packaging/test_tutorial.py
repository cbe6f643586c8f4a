"""On a fresh machine the tutorial is typed as written, from `pip install` to a deployment, with the wheel."""

import os
import sys
from pathlib import Path

import pytest

from tests.docs.page_shells import Desk
from tests.docs.pages import ROOT, page_blocks
from tests.harness.fresh_venv import build_wheel

# How pip reaches its index is the machine's business.
NETWORK = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "PIP_INDEX_URL", "PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
ELSEWHERE = "both machines are one here"


@pytest.mark.long
@pytest.mark.timeout(300)  # the promise: five minutes
def test_the_tutorial_leads_from_nothing_to_a_deployment_within_five_minutes(tmp_path):
    wheel = build_wheel(ROOT, tmp_path / "wheel")
    programs = tmp_path / "bin"  # a machine that has Python, and nothing of ours
    programs.mkdir()
    (programs / "python3").symlink_to(Path(sys.base_prefix) / "bin" / "python3")
    given = {name: os.environ[name] for each in NETWORK for name in (each, each.lower()) if name in os.environ}
    desk = Desk(tmp_path, programs=programs, variables={**given, "PIP_FIND_LINKS": str(wheel.parent)})
    try:
        for block in page_blocks("docs/tutorial.md"):
            for command in () if block.why_not.startswith(ELSEWHERE) else block.commands:
                desk.type(command)
    finally:
        desk.close()
    installed = tmp_path / "left" / "remaphore" / "bin" / "remaphore"
    assert installed.is_file()
    assert "deployed v42" in "".join(path.read_text() for path in (tmp_path / "typed" / "left").glob("*/out"))
