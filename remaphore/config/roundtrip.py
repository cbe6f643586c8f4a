"""Edits of the peers in the main file that keep everything else: comments, order, white space.

They are made with tomlkit, which is installed with the extra `operator`, because only people at a terminal need it.

tomlkit attaches what follows a table to that table. In

    [[peers]]             # number 0
    destination = "com.example.a"

    # The plugins we use.
    [plugins]

the blank line and the comment are part of the body of peer 0, although they introduce [plugins]. So `append` moves them
behind the new peer, and `remove` keeps them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from remaphore.config import render
from remaphore.errors import ConfigError
from remaphore.extras import install_hint
from remaphore.protocol.peers import Peer

_BY_HAND = "or edit it by hand"
_INSTEAD = f"{_BY_HAND} (peer add --drop-in adds a peer without changing it, in peers.d)"

# Consecutive blank lines: tomlkit copies all of them for each of them, so that 500 KB took 11 s.
_MAX_BLANK = 5_000

_Body = list[tuple[Any, Any]]  # tomlkit's: (key, item), and (None, item) for comments and white space


def append(text: str, peers: Sequence[Peer], source: str) -> str:
    """Return *text*, of the file *source*, with *peers* after its own. Raise ConfigError."""
    from tomlkit import inline_table, table
    from tomlkit.items import AoT, Whitespace

    document = _parse(text, source)
    known = document.get("peers")
    if known is None:
        head = text.rstrip()
        # A comment at the end of the file introduces the peers that follow: no blank line after it.
        gap = "\n" if head.rpartition("\n")[2].startswith("#") else "\n\n"
        return head + gap + "\n".join(map(render.peer, peers))
    if not isinstance(known, AoT):  # peers = [{...}, {...}]
        for peer in peers:
            known.append(_fill(inline_table(), peer))
        return str(document.as_string())
    rest = _take_rest(known[-1].value.body)
    for peer in peers:
        _last_table(known[-1].value.body).append((None, Whitespace("\n")))
        known.append(_fill(table(), peer))
    known[-1].value.body.extend(rest)
    return str(document.as_string())


def remove(text: str, numbers: Collection[int], source: str) -> str:
    """Return *text*, of the file *source*, without its peers number *numbers*. Raise ConfigError."""
    if not is_available():
        raise _no_tomlkit(source, "delete the table of the peer")
    from tomlkit.items import AoT

    document = _parse(text, source)
    known = document["peers"]
    for number in sorted(numbers, reverse=True):
        if isinstance(known, AoT):
            rest = _take_rest(known[number].value.body)
            del known[number]
            _put_rest(rest, document.body, known, number)
        else:
            del known[number]
    return str(document.as_string())


def set_verbs(text: str, wanted: Mapping[int, frozenset[str]], source: str) -> str:
    """Return *text*, of the file *source*, where the peer of each number may send the verbs of *wanted* (lower case).

    Verbs that stay keep their place and comments. A verb with a payload rule is not added: the rule permits it, and
    once it is deleted, the list would permit any payload. Raise ConfigError.
    """
    if not is_available():
        lines = "; ".join(f"verbs = {render.array(sorted(verbs))} in peers[{at}]" for at, verbs in wanted.items())
        raise _no_tomlkit(source, f"write {lines}")
    document = _parse(text, source)
    for number, verbs in wanted.items():
        table = document["peers"][number]
        array = table["verbs"]
        for at in reversed(range(len(array))):
            if array[at].lower() not in verbs:
                del array[at]
        for verb in sorted(verbs - {verb.lower() for verb in (*array, *table.get("only", ()))}):
            array.append(verb)
    return str(document.as_string())


def is_available() -> bool:
    """Return whether tomlkit is installed."""
    try:
        import tomlkit  # noqa: F401 - only whether it is installed
    except ImportError:
        return False
    return True


def _no_tomlkit(source: str, instead: str) -> ConfigError:
    hint = f"{install_hint('operator')}, {_BY_HAND}: {instead}"
    return ConfigError(f"{source}: editing it needs tomlkit", hint=hint)


def _parse(text: str, source: str) -> Any:
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    whole = text if text.endswith("\n") else f"{text}\n"
    if "\n" * _MAX_BLANK in whole.translate({ord(blank): None for blank in " \t\r"}):
        what = f"{source}: cannot be edited: more than {_MAX_BLANK} consecutive blank lines"
        raise ConfigError(what, hint="delete the blank lines")
    try:
        document = tomlkit.parse(whole)
    except TOMLKitError as error:
        raise ConfigError(f"{source}: cannot be edited: {error}", hint=f"correct it, {_INSTEAD}") from None
    if document.as_string() != whole:  # tomlkit merges an array of tables that is not contiguous
        raise ConfigError(f"{source}: its [[peers]] are not contiguous", hint=f"move them together, {_INSTEAD}")
    return document


def _fill(table: Any, peer: Peer) -> Any:
    table.update({**render.peer_strings(peer), "verbs": sorted(peer.verbs)})
    return table


def _take_rest(body: _Body) -> _Body:
    """Cut off a table, and return, what follows the first blank line after its last key: it belongs to what follows."""
    from tomlkit.items import Whitespace

    body = _last_table(body)
    end = max(number for number, (key, _) in enumerate(body) if key is not None) + 1
    blank = [number for number in range(end, len(body)) if isinstance(body[number][1], Whitespace)]
    start = blank[0] if blank else len(body)
    rest = body[start:]
    del body[start:]
    return rest


def _last_table(body: _Body) -> _Body:
    """Return the body of the last table in *body*, such as [peers.only.deploy], which has all that follows it."""
    from tomlkit.items import Table

    last = body[-1][1]
    return _last_table(last.value.body) if isinstance(last, Table) else body


def _put_rest(rest: _Body, top: _Body, known: Any, number: int) -> None:
    """Put *rest*, cut off the removed table *number*, behind the table before it, or before the first table."""
    from tomlkit.items import Whitespace

    if number:
        body = _last_table(known[number - 1].value.body)
        if isinstance(body[-1][1], Whitespace):
            body.pop()  # the separator of the two tables
        body.extend(rest)
        return
    place = next(at for at, (key, _) in enumerate(top) if key is not None and key.key == "peers")
    top[place : place + (0 if known else 1)] = rest[1:]
