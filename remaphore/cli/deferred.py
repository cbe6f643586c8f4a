"""Modules that libraries import for what this program seldom or never does: they are loaded when first used.

nats-py imports its JetStream part, http.server the table of HTML's characters, importlib.metadata the reader of zip
files, and so on: 2.5 MiB of an idle daemon, and a tenth of the time of `remaphore -s`. Nothing is missing: whoever uses
such a module, a plugin for example, loads it with the first attribute.

`importlib.util.LazyLoader` does not suffice: a second `import` statement loads its modules, and in Python 3.11 two
threads can load one at the same time.

Two threads, of plugins for example, may wait for each other where none would if the modules were loaded at the start:

    thread 1 uses `nats.js.X`             it loads the package, and waits for the import lock of `nats.js.errors`
    thread 2 imports `nats.js.errors`     it has that lock, and waits for the package

So a thread waits for another one's loading for WAIT_SECONDS at most. Then it continues with what the package has by
now, as Python does where two imports wait for each other: the submodules of a package are made for that, because the
package imports them before it is complete.
"""

from __future__ import annotations

import gc
import os
import sys
from _thread import RLock  # threading imports more
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import Loader

MODULES = frozenset(
    {
        "asyncio.sslproto",  # by asyncio, for TLS
        "bz2",  # by shutil and zipfile
        "calendar",  # by email.utils, for dates that are read
        "csv",  # by importlib.metadata, for the files of a package
        "html",  # by http.server, for its error pages
        "ipaddress",  # by urllib.parse and nats.aio.client, for addresses in brackets and servers that a server reports
        "locale",  # by subprocess, for text in the encoding of the locale
        "lzma",  # by shutil and zipfile
        "mimetypes",  # by http.server, for files that are served
        "nats.js",  # by nats.aio.client
        "shutil",  # by tempfile, to remove directories
        "structlog.threadlocal",  # by structlog, for the contexts that contextvars have replaced
        "zipfile",  # by importlib.metadata, for packages in a zip file
    }
)

# What has served its purpose once a command has its options and its logger: the parser, and what it imports; the pickle
# of which structlog keeps an exception.
_USED_ONCE = ("remaphore.cli.arguments", "argparse", "gettext", "locale", "pickle", "_compat_pickle")

WAIT_SECONDS = 5.0  # far longer than any of them takes


class _DeferringFinder:
    """Finds the modules of MODULES as every other module is found, and defers their execution."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the spec of a module of MODULES; None for all others."""
        if name not in MODULES:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _DeferringLoader(spec.loader)  # type: ignore[assignment] # it has what the import calls
        return spec


class _DeferringLoader:
    """Makes a module that *loader* loads when an attribute is first asked for that it does not have yet (PEP 562)."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Return what *loader* does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Prepare *module*, and leave its execution for later."""
        spec, loader, lock = module.__spec__, self._loader, RLock()
        assert spec is not None
        spec.loader = module.__loader__ = loader
        # Importing a module of a package asks for this attribute, and so loads the package first.
        own = {"__path__": module.__dict__.pop("__path__")} if spec.submodule_search_locations is not None else {}
        begun = False

        def load(attribute: str) -> object:
            nonlocal begun
            # Held by a thread that loads it now; the same thread gets here in a circular import.
            if lock.acquire(timeout=WAIT_SECONDS):
                try:
                    if not begun:
                        begun = True
                        vars(module).update(own)
                        loader.exec_module(module)
                        del module.__getattr__
                except BaseException:
                    begun = False  # for whoever asks next
                    raise
                finally:
                    lock.release()
            try:
                return vars(module)[attribute]
            except KeyError:
                raise AttributeError(f"module {module.__name__!r} has no attribute {attribute!r}") from None

        module.__getattr__ = load  # type: ignore[method-assign]


def begin() -> None:
    """Defer the modules of MODULES that have not been imported yet, for the rest of the process."""
    # Python lists a zip file of its library whether or not it exists, and importlib.metadata would look into it.
    sys.path[:] = [entry for entry in sys.path if not entry.endswith(".zip") or os.path.exists(entry)]  # noqa: PTH110
    sys.meta_path.insert(0, _DeferringFinder)


def forget_used() -> None:
    """Forget the modules of _USED_ONCE, so that what is loaded next uses their memory: 0.6 MiB.

    For commands that run for weeks. Whoever needs such a module again, a plugin for example, loads it again. In a
    process that has not called `begin`, nothing is forgotten: its modules are not only ours.
    """
    if _DeferringFinder not in sys.meta_path:
        return
    for name in _USED_ONCE:
        sys.modules.pop(name, None)
        package, _, module = name.rpartition(".")
        if package in sys.modules:
            vars(sys.modules[package]).pop(module, None)
    gc.collect()
