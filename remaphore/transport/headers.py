"""The headers of a NATS message: a block of lines, of which the first may have a status of the server."""

from __future__ import annotations

from collections.abc import Mapping

_VERSION = b"NATS/1.0"


def parse(block: bytes) -> tuple[int, Mapping[str, str]]:
    """Return the status, 0 for none, and the headers in *block*. A line that is not a header is skipped.

    Example: `NATS/1.0 404 Message Not Found|Nats-Num-Pending: 0||`, with | for CRLF, is 404, {Description: Message Not
    Found, Nats-Num-Pending: 0}. Of several headers with the same name the first counts.
    """
    first, *lines = block.split(b"\r\n")
    if not first.startswith(_VERSION):
        return 0, {}
    number, _, description = first.removeprefix(_VERSION).strip().partition(b" ")
    status = int(number) if number.isdigit() and len(number) == 3 else 0
    found = {"Description": description.decode(errors="replace")} if description else {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if colon:
            found.setdefault(name.decode(errors="replace").strip(), value.decode(errors="replace").strip())
    return status, found
