"""Plugins as third parties write them, valid and invalid. The module itself is one, too."""

import sys
from dataclasses import dataclass

from remaphore import hookimpl


@hookimpl
def remaphore_shutdown(reason):
    return reason


class Fine:
    settings = options = None

    @dataclass(frozen=True)
    class Settings:
        n: int = 0

    @hookimpl
    def remaphore_configure(self, config, settings, options):
        self.settings, self.options = settings, options

    @hookimpl
    async def remaphore_shutdown(self, reason):
        return reason


class Other(Fine):
    pass


class Picky:
    @hookimpl
    def remaphore_configure(self, settings):
        raise ValueError("listen must be a port")


class UnknownHook:
    @hookimpl
    def remaphore_mesage(self, message):
        return None


class UnknownArgument:
    @hookimpl
    def remaphore_message(self, nosuch):
        return None


class Wrapper:
    @hookimpl(wrapper=True)
    def remaphore_message(self, message):
        return (yield)


class Generator:
    @hookimpl
    def remaphore_message(self, message):
        yield None


class Eager:
    @hookimpl(tryfirst=True)
    def remaphore_message(self, message):
        return None


class AsyncAdmitted:
    @hookimpl
    async def remaphore_admitted(self, message):
        return None


class AsyncConfigure:
    @hookimpl
    async def remaphore_configure(self, config):
        return None


class RaisesWhenMade:
    def __init__(self):
        raise RuntimeError("cannot be made")


class ExitsWhenMade:
    def __init__(self):
        sys.exit(7)
