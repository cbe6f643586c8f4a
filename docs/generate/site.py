"""The hooks of mkdocs.yml: generated pages, pages from outside docs/, and the format of `console` blocks."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # mkdocs loads this file by its path

from docs.generate import api, configuration, manual  # noqa: E402 - see above

# Pages of the repository that are not in docs/, and their paths on the site.
ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "hooks.d/README.md": "hooks.d.md",
}
_LINK = re.compile(r"\[([^\]]*)\]\(((?!\w+:)[^)#\s]+)(#[^)]*)?\)")
_COMMAND = re.compile(
    r"^(?P<prompt>(?:[a-z][a-z0-9-]*)?\$ )"  # `$ ` or `left$ `
    r"(?P<command>.*(?:(?<=\\)\n.*)*(?:(?<=<<END)\n(?:.*\n)*?END$|(?<=<<'END')\n(?:.*\n)*?END$)?)$",
    re.MULTILINE,
)


def on_config(config: Any) -> Any:
    """Let `console` format blocks of that language: Pygments does not know prompts such as `left$`."""
    fences = [{"name": "console", "class": "console", "format": console}]
    config.mdx_configs.setdefault("pymdownx.superfences", {})["custom_fences"] = fences
    return config


def console(source: str, *_position: Any, **_options: Any) -> str:
    """Return the HTML of a session: dimmed prompts, highlighted commands, output; only the commands are copied.

    Material for MkDocs copies the attribute `data-copy` of an enclosing element instead of the text, if there is one.
    """
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import BashLexer

    parts, end, plain = [], 0, HtmlFormatter(nowrap=True)
    for found in _COMMAND.finditer(source):
        command = highlight(found["command"], BashLexer(stripnl=False), plain).rstrip("\n")
        parts.append(f'<span class="go">{escape(source[end : found.start()])}</span>')
        parts.append(f'<span class="gp">{found["prompt"]}</span>{command}')
        end = found.end()
    parts.append(f'<span class="go">{escape(source[end:])}</span>')
    commands = "\n".join(found["command"] for found in _COMMAND.finditer(source))
    return (
        f'<div class="highlight console" data-copy="{escape(commands)}"><pre><code>{"".join(parts)}</code></pre></div>'
    )


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages, and those from outside docs/."""
    from mkdocs.structure.files import File

    made = {
        "reference/commands.md": "\n".join(_commands()) + "\n",
        "reference/configuration.md": "\n".join(_configuration()) + "\n",
        "reference/python.md": "\n".join(api.page()) + "\n",
    }
    made |= {page: (ROOT / source).read_text() for source, page in ELSEWHERE.items()}
    for page, text in made.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_rest: Any) -> str:
    """Return *markdown* with links to files of the repository replaced by links to pages of the site."""
    path = page.file.src_uri
    source = next((source for source, site in ELSEWHERE.items() if site == path), f"docs/{path}")
    here = Path(source).parent
    return _LINK.sub(lambda found: _link(here, path, found), markdown)


def _link(here: Path, page: str, found: re.Match[str]) -> str:
    """Return a link on *page* of the site; its target is relative to the folder *here* of the repository."""
    text, target, anchor = found.groups(default="")
    wanted = (ROOT / here / target).resolve()
    if not wanted.exists():
        return found[0]  # a generated page, or a mistake, which mkdocs reports
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
    yield from ("## The Go program's command line\n", *_body(manual.legacy()))
    yield from _exit_codes("## Exit codes\n", manual.exit_codes())


def _command(command: manual.Command, level: str) -> Iterator[str]:
    yield f"{level} remaphore {command.name}\n"
    yield from _body(command)
    for action in command.actions:
        yield from _command(action, level + "#")


def _body(command: manual.Command) -> Iterator[str]:
    yield f"{_plain(command.text)}\n"
    usage = textwrap.fill(command.usage, 84, subsequent_indent="    ", break_on_hyphens=False)
    yield f"```text\n{usage}\n```\n"
    for title, groups in groupby(command.groups, key=lambda group: group.title):
        if title:
            yield f"{_plain(title[:1].upper() + title[1:])}:\n"
        yield "| option | meaning |\n|---|---|"
        options = (option for group in groups for option in group.options)
        yield from (f"| {_code(option.name)} | {_plain(option.text)} |" for option in options)
        yield ""
    if command.exit_codes:
        yield from _exit_codes("Exit codes:\n", command.exit_codes)
    if command.example:
        yield f"Example:\n\n```sh\n{command.example}\n```\n"


def _exit_codes(title: str, codes: Mapping[int, str]) -> Iterator[str]:
    yield from (title, "| code | meaning |\n|---|---|")
    yield from (f"| {code} | {_plain(meaning)} |" for code, meaning in codes.items())
    yield ""


def _configuration() -> Iterator[str]:
    yield f"# Configuration\n\n{_plain(configuration.INTRODUCTION)}\n"
    yield f"```toml\n{configuration.EXAMPLE}```\n"
    for table in configuration.TABLES:
        yield f"## {_plain(table.name)}\n\n{_plain(table.text)}\n\n| key | value | meaning |\n|---|---|---|"
        yield from (f"| `{key.name}` | {_plain(key.shape)} | {_plain(key.text)} |" for key in table.keys)
        yield ""


def _code(text: str) -> str:
    return "`" + text.replace("|", "\\|") + "`"


def _plain(text: str) -> str:
    """Escape the characters of command lines and patterns that have a meaning in Markdown."""
    return re.sub(r"([*_<|\[\]$])", r"\\\1", text)
