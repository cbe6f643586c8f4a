"""Man pages: remaphore(1), one for each command, and remaphore.toml(5)."""

from __future__ import annotations

import datetime
import os
import re
import textwrap
from collections.abc import Iterator, Mapping

from docs.generate import configuration, manual


def pages(version: str) -> dict[str, str]:
    """Return the text of each page by its file's name. *version* is remaphore's."""
    commands = tuple(manual.commands())
    made = {"remaphore.1": _main(commands), "remaphore.toml.5": _toml()}
    made |= {f"remaphore-{command.name}.1": _command(command) for command in commands}
    return {name: _head(name, version) + "\n".join(lines) + "\n" for name, lines in made.items()}


def _head(file: str, version: str) -> str:
    name, _, section = file.rpartition(".")
    epoch = os.environ.get("SOURCE_DATE_EPOCH")  # set by reproducible builds
    now = datetime.datetime.fromtimestamp(int(epoch), datetime.UTC) if epoch else datetime.datetime.now(datetime.UTC)
    return f'.TH {name.upper()} {section} "{now:%Y-%m-%d}" "remaphore {version}"\n'


def _main(commands: tuple[manual.Command, ...]) -> Iterator[str]:
    flags = manual.legacy()
    yield from _name("remaphore", manual.TITLE)
    yield ".SH SYNOPSIS"
    yield r"\fBremaphore\fR \fICOMMAND\fR [\fIOPTION\fR...] [\fIARGUMENT\fR...]"
    yield from (".PP", *_verbatim(manual.LEGACY_USAGE))
    yield from (".SH DESCRIPTION", *_text(manual.DESCRIPTION))
    yield ".SH COMMANDS"
    for command in commands:
        yield from (".TP", f"\\fBremaphore\\-{_escape(command.name)}\\fR(1)", *_text(command.summary))
    yield from (".SH GO\\-COMPATIBLE SYNTAX", *_text(flags.text), *_options(flags))
    yield from (".SH CONFIGURATION", *_text("The first of these that is given, or that exists, is used:"))
    yield from _verbatim("\n".join(manual.CONFIGURATION))
    yield from (".PP", r"\fBremaphore.toml\fR(5) describes its keys.")
    yield from _exit_codes(manual.exit_codes())
    yield from (".SH EXAMPLES", *_verbatim(manual.EXAMPLE))
    others = (*(f"remaphore\\-{command.name}" for command in commands), "remaphore.toml")
    yield ".SH SEE ALSO"
    yield ",\n".join(f"\\fB{name}\\fR({5 if name.endswith('toml') else 1})" for name in others)


def _command(command: manual.Command) -> Iterator[str]:
    yield from _name(f"remaphore-{command.name}", command.summary)
    yield from (".SH SYNOPSIS", *_usage(command.usage), ".SH DESCRIPTION", *_text(command.text))
    if command.groups:
        yield from (".SH OPTIONS", *_options(command))
    if command.actions:
        yield ".SH ACTIONS"
    for action in command.actions:
        yield from (f".SS {_escape(action.name)}", *_usage(action.usage), ".PP", *_text(action.text))
        yield from _options(action)
        yield from (".PP", "Example:", *_verbatim(action.example))
    yield from _exit_codes(command.exit_codes)
    yield from (".SH EXAMPLES", *_verbatim(command.example))
    yield from (".SH SEE ALSO", r"\fBremaphore\fR(1),", r"\fBremaphore.toml\fR(5)")


def _exit_codes(codes: Mapping[int, str]) -> Iterator[str]:
    yield ".SH EXIT STATUS"
    for code, meaning in codes.items():
        yield from (".TP", f"\\fB{code}\\fR", *_text(meaning))


def _toml() -> Iterator[str]:
    yield from _name("remaphore.toml", "configuration of remaphore")
    yield from (".SH SYNOPSIS", *_verbatim("\n".join(manual.CONFIGURATION)))
    yield from (".SH DESCRIPTION", *_text(configuration.INTRODUCTION))
    for table in configuration.TABLES:
        yield from (f".SH {_escape(table.name.upper())}", *_text(table.text))
        for key in table.keys:
            yield from (".TP", f"\\fB{_escape(key.name)}\\fR ({_escape(key.shape)})", *_text(key.text))
    yield from (".SH EXAMPLES", *_verbatim(configuration.EXAMPLE))
    yield from (".SH SEE ALSO", r"\fBremaphore\fR(1)")


def _name(name: str, what: str) -> Iterator[str]:
    yield ".SH NAME"
    yield f"{_escape(name)} \\- {_escape(what[:1].lower() + what[1:])}"


def _usage(usage: str) -> Iterator[str]:
    command = " ".join(re.match(r"remaphore(?: [a-z]+)*", usage)[0].split())  # type: ignore[index] # every usage begins like this
    yield f"\\fB{_escape(command)}\\fR"
    yield from _text(usage.removeprefix(command).strip())


def _options(command: manual.Command) -> Iterator[str]:
    for group in command.groups:
        if group.title:
            yield from (".PP", *_text(group.title[:1].upper() + group.title[1:]))
        for option in group.options:
            yield from (".TP", f"\\fB{_escape(option.name)}\\fR", *_text(option.text))


def _text(text: str) -> Iterator[str]:
    """Wrap *text*. Each sentence ends a line, as troff expects."""
    for sentence in re.split(r"(?<=\.) ", text):
        wrapped = textwrap.wrap(_escape(sentence), 78, break_long_words=False, break_on_hyphens=False)
        yield from map(_guard, wrapped)


def _verbatim(text: str) -> Iterator[str]:
    yield from (".nf", *(_guard(_escape(line)) for line in text.splitlines()), ".fi")


def _escape(text: str) -> str:
    return (
        text.replace("\\", "\\e").replace("-", "\\-").replace("^", "\\(ha").replace("~", "\\(ti").replace("'", "\\(aq")
    )


def _guard(line: str) -> str:
    """Return *line* so that a dot at its start is not a request to troff."""
    return f"\\&{line}" if line.startswith(".") else line
