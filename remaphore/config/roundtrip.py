"""Edits of the peers in our own file that leave the rest as it was written: comments, order, white space.

tomlkit does it; it comes with the extra `operator`, because only people at a terminal need it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from remaphore.config import render
from remaphore.errors import ConfigError
from remaphore.protocol.peers import Peer

_INSTEAD = "or edit it by hand (to add a peer without touching it: --drop-in, which writes to peers.d)"

# Blank lines in a row: tomlkit copies all of them with each, so that 500 KB of them took 11 s.
_MAX_BLANK = 5_000

_Body = list[tuple[Any, Any]]  # tomlkit's: (key, item), and (None, item) for comments and white space


def append(text: str, peers: Sequence[Peer], source: str) -> str:
    """Return *text*, of the file *source*, with *peers* after those that it has. Raises ConfigError."""
    import_tomlkit(source)
    from tomlkit import inline_table, table
    from tomlkit.items import AoT, Whitespace

    document = _parse(text, source)
    known = document.get("peers")
    if known is None:
        return _append_first(text, peers)
    if not isinstance(known, AoT):  # peers = [{...}, {...}]
        for peer in peers:
            known.append(_fill(inline_table(), peer))
        return str(document.as_string())
    rest = _take_rest(known[-1].value.body)
    for peer in peers:
        known[-1].value.body.append((None, Whitespace("\n")))
        known.append(_fill(table(), peer))
    known[-1].value.body.extend(rest)
    return str(document.as_string())


def remove(text: str, numbers: Collection[int], source: str) -> str:
    """Return *text*, of the file *source*, without those of its peers. Raises ConfigError."""
    import_tomlkit(source)
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


def import_tomlkit(source: str) -> None:
    """Raise ConfigError, with the two ways on, if tomlkit is not installed."""
    try:
        import tomlkit  # noqa: F401 - only whether it is there
    except ImportError:
        raise ConfigError(
            f"{source}: editing it needs tomlkit; install it: pip install 'remaphore[operator]', {_INSTEAD}"
        ) from None


def _parse(text: str, source: str) -> Any:
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    whole = text if text.endswith("\n") else f"{text}\n"
    if "\n" * _MAX_BLANK in whole.translate({ord(blank): None for blank in " \t\r"}):
        raise ConfigError(f"{source}: cannot be edited: more than {_MAX_BLANK} blank lines in a row; delete them")
    try:
        document = tomlkit.parse(whole)
    except TOMLKitError as error:
        raise ConfigError(f"{source}: cannot be edited ({error}); edit it by hand, {_INSTEAD}") from None
    if document.as_string() != whole:  # it puts together what stands apart
        raise ConfigError(f"{source}: its [[peers]] do not stand together; put them together, {_INSTEAD}")
    return document


def _append_first(text: str, peers: Sequence[Peer]) -> str:
    head = text.rstrip()
    # A comment that ends the file introduces the peers that were to come.
    gap = "\n" if head.rpartition("\n")[2].startswith("#") else "\n\n"
    return head + gap + "\n".join(map(render.peer, peers))


def _fill(table: Any, peer: Peer) -> Any:
    table.update({**render.peer_strings(peer), "verbs": sorted(peer.verbs)})
    return table


def _take_rest(body: _Body) -> _Body:
    """Take off a table what stands after its last key, from the first blank line on: it belongs to what follows."""
    from tomlkit.items import Whitespace

    end = max(number for number, (key, _) in enumerate(body) if key is not None) + 1
    blank = [number for number in range(end, len(body)) if isinstance(body[number][1], Whitespace)]
    start = blank[0] if blank else len(body)
    rest = body[start:]
    del body[start:]
    return rest


def _put_rest(rest: _Body, top: _Body, known: Any, number: int) -> None:
    """Put back what followed the table that was *number*: after the one before it, else before the first one."""
    from tomlkit.items import Whitespace

    if number:
        body = known[number - 1].value.body
        if isinstance(body[-1][1], Whitespace):
            body.pop()  # it parted the two
        body.extend(rest)
        return
    place = next(at for at, (key, _) in enumerate(top) if key is not None and key.key == "peers")
    top[place : place + (0 if known else 1)] = rest[1:]
