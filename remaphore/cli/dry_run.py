"""`request --dry-run`: which destinations would be asked, and why the others would not."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from remaphore.cli import output
from remaphore.errors import NoReceiversError
from remaphore.protocol.quorum import ReplyQuorum

if TYPE_CHECKING:
    from remaphore.cli.commands.request import Request
    from remaphore.config.settings import Config
    from remaphore.requesting.rollout import BatchPlan


def dry_run(options: Request, config: Config, plan: BatchPlan | None) -> int:
    """Print what would happen to each known destination; return 0. Raise NotPermittedError or NoReceiversError."""
    try:
        destinations = options.destinations(config)
    except NoReceiversError:
        _print_targets(options, config, ())
        raise
    quorum = ReplyQuorum.of(options.require, len(destinations), fail_fast=False) if destinations else None
    batches = plan.batches(destinations) if plan else (destinations,)
    _print_targets(options, config, batches)
    config.sender(options.verb, options.key)
    required = f", {quorum.required} must succeed" if quorum else ""
    output.notice(f"{len(destinations)} would be asked{f', in batches: {len(batches)}' if plan else ''}{required}")
    return 0


def _print_targets(options: Request, config: Config, batches: Sequence[Sequence[str]]) -> None:
    from remaphore.requesting.requester import preview

    reason = f"the pattern {options.to!r} does not match it" if options.selection is None else "it is not selected"
    batch_of = {name: number for number, batch in enumerate(batches, start=1) for name in batch}
    targets = preview(config, options.verb, batch_of, reason, key=options.key)
    for name in (target.destination for target in targets if not target.skip_reason):
        note = f"  batch {batch_of[name]} of {len(batches)}" if options.batch else ""
        sys.stdout.write(output.printable(f"ask   {name}{note}") + "\n")
    skipped = (target for target in targets if target.skip_reason)
    sys.stdout.writelines(output.printable(f"skip  {name}: {reason}") + "\n" for name, reason in skipped)
