"""Man pages: remaphore(1), one for each command, and remaphore.toml(5)."""

from __future__ import annotations

import datetime
import os
import re
import textwrap
from collections.abc import Iterator

from docs.generate import configuration, manual


def pages(version: str) -> dict[str, str]:
    """Return the text of each page by its file's name. *version* is remaphore's."""
    words = tuple(manual.commands())
    made = {"remaphore.1": _main(words), "remaphore.toml.5": _toml()}
    made |= {f"remaphore-{command.name}.1": _command(command) for command in words}
    return {name: _head(name, version) + "\n".join(lines) + "\n" for name, lines in made.items()}


def _head(file: str, version: str) -> str:
    name, _, section = file.rpartition(".")
    epoch = os.environ.get("SOURCE_DATE_EPOCH")  # as reproducible builds have it
    now = datetime.datetime.fromtimestamp(int(epoch), datetime.UTC) if epoch else datetime.datetime.now(datetime.UTC)
    return f'.TH {name.upper()} {section} "{now:%Y-%m-%d}" "remaphore {version}"\n'


def _main(words: tuple[manual.Command, ...]) -> Iterator[str]:
    flags, texts = manual.original(), manual.paragraphs()
    yield from _name("remaphore", texts["remaphore"].partition(".")[0])
    yield ".SH SYNOPSIS"
    yield from (r"\fBremaphore\fR \fICOMMAND\fR [\fIOPTION\fR...] [\fIARGUMENT\fR...]", ".br", *_usage(flags.usage))
    yield from (".SH DESCRIPTION", *_text(manual.DESCRIPTION))
    yield ".SH COMMANDS"
    for command in words:
        yield from (".TP", f"\\fBremaphore\\-{_escape(command.name)}\\fR(1)", *_text(command.text))
    yield from (".SH OPTIONS OF THE ORIGINAL", *_text(flags.text), *_options(flags))
    yield from (
        ".SH CONFIGURATION",
        *_text(texts["configuration"] + "; the first that is given or there counts."),
        ".PP",
    )
    yield r"\fBremaphore.toml\fR(5) has its keys."
    yield ".SH EXIT STATUS"
    for code in texts["exit codes"].split("; "):
        number, _, meaning = code.partition(" ")
        yield from (".TP", f"\\fB{number}\\fR", *_text(meaning))
    yield from (".SH EXAMPLES", *_verbatim(textwrap.dedent(" " * 10 + texts["example"])))
    others = (*(f"remaphore\\-{command.name}" for command in words), "remaphore.toml")
    yield ".SH SEE ALSO"
    yield ",\n".join(f"\\fB{name}\\fR({5 if name.endswith('toml') else 1})" for name in others)


def _command(command: manual.Command) -> Iterator[str]:
    yield from _name(f"remaphore-{command.name}", command.brief)
    yield from (".SH SYNOPSIS", *_usage(command.usage), ".SH DESCRIPTION", *_text(command.text))
    for note in command.notes:
        yield from (".PP", *_text(note[:1].upper() + note[1:] + "."))
    if command.groups:
        yield from (".SH OPTIONS", *_options(command))
    if command.commands:
        yield ".SH COMMANDS"
    for inner in command.commands:
        yield from (f".SS {_escape(inner.name)}", *_usage(inner.usage), ".PP", *_text(inner.text), *_options(inner))
    examples = [each.example for each in (command, *command.commands) if each.example]
    if examples:
        yield from (".SH EXAMPLES", *_verbatim("\n".join(examples)))
    yield from (".SH SEE ALSO", r"\fBremaphore\fR(1),", r"\fBremaphore.toml\fR(5)")


def _toml() -> Iterator[str]:
    yield from _name("remaphore.toml", "configuration of remaphore")
    yield from (".SH SYNOPSIS", *_verbatim(manual.paragraphs()["configuration"].replace(", ", "\n")))
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
    command = " ".join(re.match(r"remaphore(?: [a-z]+)*", usage)[0].split())  # type: ignore[index] # each begins so
    yield f"\\fB{_escape(command)}\\fR"
    yield from _text(usage.removeprefix(command).strip())


def _options(command: manual.Command) -> Iterator[str]:
    for group in command.groups:
        if group.title:
            yield from (".PP", *_text(group.title[:1].upper() + group.title[1:]))
        for option in group.options:
            yield from (".TP", f"\\fB{_escape(option.name)}\\fR", *_text(option.text))


def _text(text: str) -> Iterator[str]:
    """Wrap *text*: what ends a sentence ends a line too, as troff wants it."""
    for sentence in re.split(r"(?<=[.:;]) ", text):
        wrapped = textwrap.wrap(_escape(sentence), 78, break_long_words=False, break_on_hyphens=False)
        yield from map(_guard, wrapped)


def _verbatim(text: str) -> Iterator[str]:
    yield from (".nf", *(_guard(_escape(line)) for line in text.splitlines()), ".fi")


def _escape(text: str) -> str:
    return (
        text.replace("\\", "\\e").replace("-", "\\-").replace("^", "\\(ha").replace("~", "\\(ti").replace("'", "\\(aq")
    )


def _guard(line: str) -> str:
    """A line that begins with a dot would be a request to troff."""
    return f"\\&{line}" if line.startswith(".") else line
