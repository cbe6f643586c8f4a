"""`remaphore explain`: why a message would be taken or not, check by check, and what would run."""

from __future__ import annotations

import base64
import binascii
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial

from remaphore.cli import console
from remaphore.cli.hooks import NOTHING, prepare, to_line
from remaphore.cli.options.daemon import Explain
from remaphore.config.peer_line import secret_problem
from remaphore.config.secrets import read_file, read_stdin
from remaphore.diagnostics.explain import Contents, Explainer, Explanation, Finding, ask_plan
from remaphore.errors import EncodeError, KeyFormatError, UsageError
from remaphore.logs import escape
from remaphore.protocol import keys

_HEADS = {
    Contents.VERIFIED: "verified",
    Contents.CLAIMED: "claimed by whoever sent it, and not to be trusted",
    Contents.SUPPOSED: "supposed, and signed by its sender at the time of its arrival",
}
_LONGEST_SHOWN = 100  # characters of a field


def run(options: Explain) -> int:
    """Explain; return 0 if all messages are accepted, 1 if one is dropped."""
    console.check(key=options.receiver.key, subject_name="")
    config, plugins = prepare(options.receiver.config, options.hooks)
    explainer = Explainer(config, filters=console.filters(options.receiver), plan=partial(ask_plan, plugins))
    now = time.time_ns() if options.at is None else options.at
    found = _questions(explainer, options, now) if options.sender else _messages(explainer, options, now)
    dropped = False
    for source, explanation in found:
        sys.stdout.write(_to_json(source, explanation) if options.json else _to_text(source, explanation))
        dropped = dropped or explanation.reason is not None
    return 1 if dropped else 0


def _questions(explainer: Explainer, options: Explain, now: int) -> Iterator[tuple[str, Explanation]]:
    for key in explainer.senders(options.sender) or [_public_key(options.sender)]:
        try:
            answer = explainer.suppose(sender=key, verb=options.verb, to=options.to, now=now)
        except EncodeError as error:
            raise UsageError(f"no message can be asked about: {error}") from None
        yield f"{options.verb} from {options.sender} to {options.to}", answer


def _public_key(text: str) -> str:
    try:
        keys.decode_public(text)
    except KeyFormatError:
        problem = secret_problem(text) or f"{text!r} is neither the destination of a peer nor a public key; correct it"
        raise UsageError(f"--from: {problem}") from None
    return text


def _messages(explainer: Explainer, options: Explain, now: int) -> Iterator[tuple[str, Explanation]]:
    for name in options.files or ("-",):
        source = "stdin" if name == "-" else name
        raw = read_stdin(what="message") if name == "-" else read_file(name, what="message")[0]
        if not options.base64:
            yield source, explainer.judge(raw, now=now)
            continue
        lines = raw.splitlines()
        if not lines:
            raise UsageError(f"{source}: empty; with --base64, write one message a line")
        for number, line in enumerate(lines, 1):
            place = f"{source}:{number}"
            yield place, explainer.judge(_decode(line, place), now=now)


def _decode(line: bytes, place: str) -> bytes:
    try:
        return base64.b64decode(line.strip(), validate=True)
    except binascii.Error as error:
        raise UsageError(f"{place}: not base64: {error}; write one message a line") from None


def _fields(explanation: Explanation) -> dict[str, object] | None:
    frame = explanation.frame
    if frame is None:
        return None
    fields: dict[str, object] = {
        "sender": frame.sender,
        "peer": explanation.peer and explanation.peer.destination,
        "destination": frame.destination,
        "verb": frame.verb,
        "time_ns": frame.time_ns,
    }
    if explanation.contents is not Contents.SUPPOSED:
        fields |= {"uuid": frame.uuid.hex(), "wants_reply": frame.wants_reply, "payload_bytes": len(frame.payload)}
    return fields


def _to_json(source: str, explanation: Explanation) -> str:
    row = {
        "source": source,
        "size": explanation.size,
        "verdict": explanation.verdict,
        "reason": explanation.reason,
        "checks": [asdict(finding) for finding in explanation.findings],
        "contents": explanation.contents,
        "fields": _fields(explanation),
        "steps": [asdict(step) for step in explanation.steps],
    }
    return json.dumps(row) + "\n"


def _to_text(source: str, explanation: Explanation) -> str:
    size = f", {explanation.size} bytes" if explanation.contents is not Contents.SUPPOSED else ""
    why = f", {explanation.reason}" if explanation.reason else ""
    lines = [_safe(f"{source}{size}: {explanation.verdict}{why}")]
    width = max(len(finding.decided_by) for finding in explanation.findings)
    lines += (_check_line(finding, width) for finding in explanation.findings)
    fields = _fields(explanation)
    if fields is not None:
        lines.append(f"fields, {_HEADS[explanation.contents]}:")
        lines += (f"  {name:<13} {_shown(value)}" for name, value in fields.items())
    if explanation.reason is None:
        lines += ["would run:", *(map(to_line, explanation.steps) if explanation.steps else [NOTHING])]
    return "\n".join(lines) + "\n"


def _check_line(finding: Finding, width: int) -> str:
    line = f"  {finding.check:<13} {finding.state:<13} {finding.decided_by:<{width}}  {finding.detail}"
    return _safe(line).rstrip()


def _shown(value: object) -> str:
    # In ASCII: a look-alike of a letter, or what turns the direction of a line, is seen for what it is.
    text = ascii(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}... ({len(text)} characters)"


def _safe(text: str) -> str:
    return escape(text).encode(errors="backslashreplace").decode()
