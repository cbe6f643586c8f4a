"""Payload rules in a configuration: the same three keys wherever a rule can be.

`payloads` has exact texts, `pattern` is compared with the whole payload, and `max_length` limits what a pattern may
match. See `remaphore.protocol.payloads` for what a pattern may not contain, and why.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from remaphore.config import checks
from remaphore.config.tables import Table
from remaphore.protocol.payloads import PayloadRule, PayloadRuleError
from remaphore.protocol.peers import ANY_VERB

KEYS = ("payloads", "pattern", "max_length")


def read(table: Table) -> PayloadRule | None:
    """Return the rule in those keys of *table* that are in KEYS, or None if it has none of them. Raise ConfigError."""
    if not any(key in table for key in KEYS):
        return None
    payloads = table.texts("payloads", may_be_empty=True)
    pattern = table.text("pattern", may_be_empty=True)
    try:
        return PayloadRule.of(payloads=payloads, pattern=pattern, max_length=table.positive("max_length"))
    except PayloadRuleError as error:
        raise table.error(error.key, str(error), error.hint) from None


def read_by_verb(table: Table) -> Mapping[str, PayloadRule]:
    """Return the rule of each verb in `only` of *table*, `[peers.only.VERB]` in the file. Raise ConfigError."""
    rules: dict[str, PayloadRule] = {}
    tables = table.table("only", None)
    for name in tables:
        tables.checked(name, name, checks.verb_problem)
        verb = name.lower()
        if verb == ANY_VERB:
            raise tables.error(name, "not a verb", "write a table for each verb, such as [peers.only.deploy]")
        if verb in rules:
            raise tables.error(name, "the same verb twice, in other cases", "delete one of the two")
        rule = read(one := tables.table(name, KEYS))
        if rule is None:
            raise one.error("", "permits nothing", f"add {', '.join(KEYS[:-1])} or {KEYS[-1]}")
        rules[verb] = rule
    return MappingProxyType(rules)
