"""Making the streams: what `remaphore coordination init` does, with the login of an administrator."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from remaphore.coordination import streams
from remaphore.coordination.jetstream import STREAM_NOT_FOUND, ApiError, JetStream
from remaphore.errors import CoordinationUnavailableError

CREATE_LIMIT = 10.0  # seconds: a cluster has to agree on where the stream is
_OVERLAP = 10065
_TOO_FEW_SERVERS = (10005, 10074)  # no suitable peers for placement; replicas > 1 without a cluster
# Of the stream of records: not its administrator's to change, and not a setting of ours.
_OF_SERVER = ("placement", "metadata", "description")


async def make_streams(
    jetstream: JetStream, root: str, *, replicas: int | None = None, recreate: bool = False
) -> list[str]:
    """Make the streams, or correct their settings; return a line for each of them.

    replicas: None for what a stream has, 1 for a new one. recreate: delete them first. Every lock is free then, and the
    fencing tokens of the new stream are higher than all of the old one. Raise CoordinationUnavailableError or
    TransportError.
    """
    lines = []
    for wanted in streams.definitions(root, replicas=replicas or 1, first_sequence=time.time_ns() // 1000):
        found = await _info(jetstream, wanted["name"])
        if found is not None and replicas is None:
            wanted["num_replicas"] = found["config"]["num_replicas"]
        if found is not None and recreate:
            last = found["state"]["last_seq"]
            if "first_seq" in wanted:
                wanted["first_seq"] = max(wanted["first_seq"], last + 1)
            await jetstream.api(f"STREAM.DELETE.{wanted['name']}", timeout=CREATE_LIMIT)
            lines.append(await _create(jetstream, wanted, done="made again"))
        elif found is None:
            lines.append(await _create(jetstream, wanted, done="made"))
        else:
            lines.append(await _correct(jetstream, found["config"], wanted))
    return lines


async def _info(jetstream: JetStream, name: str) -> dict[str, Any] | None:
    try:
        return await jetstream.info(name)
    except ApiError as error:
        if error.code == STREAM_NOT_FOUND:
            return None
        raise


async def _create(jetstream: JetStream, wanted: Mapping[str, Any], *, done: str) -> str:
    try:
        await _apply(jetstream, "CREATE", wanted)
    except ApiError as error:
        if error.code == _OVERLAP:
            raise await _overlap(jetstream, wanted["subjects"][0]) from None
        raise
    return f"{wanted['name']}: {done}, replicas {wanted['num_replicas']}"


async def _apply(jetstream: JetStream, action: str, settings: Mapping[str, Any]) -> None:
    """Make or change a stream. Raise CoordinationUnavailableError, an ApiError unless there are too few servers."""
    name = settings["name"]
    try:
        await jetstream.api(f"STREAM.{action}.{name}", settings, timeout=CREATE_LIMIT)
    except ApiError as error:
        if error.code not in _TOO_FEW_SERVERS:
            raise
        text = f"stream {name}: too few servers for {settings['num_replicas']} replicas"
        hint = "connect that many servers with JetStream as a cluster, or use --replicas 1"
        raise CoordinationUnavailableError(text, hint=hint) from None


async def _overlap(jetstream: JetStream, subject: str) -> CoordinationUnavailableError:
    """Return the error about the streams that store *subject* already."""
    answer = await jetstream.api("STREAM.NAMES", {"subject": subject})
    names = ", ".join(map(str, answer.get("streams") or ["unknown"]))
    hint = "delete it, or take our subjects out of it; it also answers requests in place of the nodes"
    return CoordinationUnavailableError(f"another stream stores {subject}: {names}", hint=hint)


async def _correct(jetstream: JetStream, actual: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Change the settings that differ; return what was done. Raise CoordinationUnavailableError if they cannot be."""
    name = wanted["name"]
    changes = list(streams.differences(actual, wanted))
    if actual.get("num_replicas") != wanted["num_replicas"]:
        changes.append(f"num_replicas is {actual.get('num_replicas')}, not {wanted['num_replicas']}")
    if not changes:
        return f"{name}: unchanged, replicas {wanted['num_replicas']}"
    corrected = {**{key: actual[key] for key in _OF_SERVER if key in actual}, **wanted}
    if "first_seq" in wanted:
        corrected["first_seq"] = actual.get("first_seq", 0)
    refused = ""
    try:
        await _apply(jetstream, "UPDATE", corrected)
    except ApiError as error:
        refused = str(error)
    if refused or any(change.startswith("first_seq") for change in changes):
        hint = "remaphore coordination init --recreate makes it again; all locks are free then"
        raise CoordinationUnavailableError(f"stream {name}: {'; '.join(filter(None, (*changes, refused)))}", hint=hint)
    return f"{name}: corrected ({'; '.join(changes)})"
