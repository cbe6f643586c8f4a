"""The reference pages of the site, for mkdocs.yml's `hooks`, and the pages that stand elsewhere in the repository."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # mkdocs loads this file by its path

from docs.generate import configuration, manual  # noqa: E402 - see above

# Pages of the repository that are not below docs/: where they stand on the site.
ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "hooks.d/README.md": "hooks.d.md",
}
_LINK = re.compile(r"\[([^\]]*)\]\(((?!\w+:)[^)#\s]+)(#[^)]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are generated, and those that stand elsewhere."""
    from mkdocs.structure.files import File

    made = {
        "reference/commands.md": "\n".join(_commands()) + "\n",
        "reference/configuration.md": "\n".join(_configuration()) + "\n",
    }
    made |= {page: (ROOT / source).read_text() for source, page in ELSEWHERE.items()}
    for page, text in made.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_rest: Any) -> str:
    """Make links between docs/ and the rest of the repository into links of the site; others have no page.

    The highlighter knows no prompt such as `left$`, and would print the whole session grey.
    """
    markdown = markdown.replace("```console\n", "```text\n")
    path = page.file.src_uri
    source = next((source for source, site in ELSEWHERE.items() if site == path), f"docs/{path}")
    here = Path(source).parent
    return _LINK.sub(lambda found: _link(here, path, found), markdown)


def _link(here: Path, page: str, found: re.Match[str]) -> str:
    """Return a link on *page* of the site; what it names counts from the folder *here* of the repository."""
    text, target, anchor = found.groups(default="")
    wanted = (ROOT / here / target).resolve()
    if not wanted.exists():
        return found[0]  # a generated page, or a mistake, which mkdocs finds
    inside = str(wanted.relative_to(ROOT))
    if inside in ELSEWHERE:
        site = ELSEWHERE[inside]
    elif inside.startswith("docs/") and wanted.is_file():
        site = inside.removeprefix("docs/")
    else:
        return f"{text} (`{inside}` in the source)"
    return f"[{text}]({'../' * page.count('/')}{site}{anchor})"


def _commands() -> Iterator[str]:
    yield "# Commands\n\nEach has a man page too: `man remaphore`, `man remaphore-send`.\n"
    for command in manual.commands():
        yield from _command(command, "##")
    yield from ("## Go-compatible syntax\n", *_body(manual.legacy()))
    yield "## Exit codes\n\n| code | meaning |\n|---|---|"
    yield from (f"| {code} | {_plain(meaning)} |" for code, meaning in manual.exit_codes().items())


def _command(command: manual.Command, level: str) -> Iterator[str]:
    yield f"{level} remaphore {command.name}\n"
    yield from _body(command)
    for inner in command.actions:
        yield from _command(inner, level + "#")


def _body(command: manual.Command) -> Iterator[str]:
    yield f"{_plain(command.text)}\n"
    usage = textwrap.fill(command.usage, 84, subsequent_indent="    ", break_on_hyphens=False)
    yield f"```text\n{usage}\n```\n"
    for title, groups in groupby(command.groups, key=lambda group: group.title):
        if title:
            yield f"{_plain(title[:1].upper() + title[1:])}:\n"
        yield "| option | what it is |\n|---|---|"
        options = (option for group in groups for option in group.options)
        yield from (f"| {_code(option.name)} | {_plain(option.text)} |" for option in options)
        yield ""
    if command.exit_codes:
        yield "Exit codes:\n\n| code | meaning |\n|---|---|"
        yield from (f"| {code} | {_plain(meaning)} |" for code, meaning in command.exit_codes.items())
        yield ""
    yield f"```sh\n{command.example}\n```\n"


def _configuration() -> Iterator[str]:
    yield f"# Configuration\n\n{_plain(configuration.INTRODUCTION)}\n"
    yield f"```toml\n{configuration.EXAMPLE}```\n"
    for table in configuration.TABLES:
        yield f"## {_plain(table.name)}\n\n{_plain(table.text)}\n\n| key | value | what it is |\n|---|---|---|"
        yield from (f"| `{key.name}` | {_plain(key.shape)} | {_plain(key.text)} |" for key in table.keys)
        yield ""


def _code(text: str) -> str:
    return "`" + text.replace("|", "\\|") + "`"


def _plain(text: str) -> str:
    """Keep what a command line or a pattern holds from being Markdown."""
    return re.sub(r"([*_<|\[\]$])", r"\\\1", text)
