"""Modules that are loaded when first used. Each test runs in a process of its own, in which none of them is loaded."""

import subprocess
import sys

import pytest

from tests.harness.caller import unmeasured

BEGIN = "import sys; from remaphore.cli import deferred; deferred.begin()\n"
LOADED = "print([name for name in deferred.MODULES & {*sys.modules} if '__getattr__' not in vars(sys.modules[name])])"


def run(code):
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + code], env=unmeasured(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_what_sending_and_the_daemon_import_uses_none_of_them():
    imported = "import remaphore.transport.nats_client, remaphore.cli.commands.run, http.server, importlib.metadata\n"
    used = "importlib.metadata.version('nats-py'); remaphore.transport.servers.parse('nats://127.0.0.1')\n"
    used += "from remaphore.cli import arguments; arguments.make_parser('run').format_help()\n"
    used += "import structlog; deferred.forget_used()\n"
    assert (
        run(imported + used + "print(*sorted(deferred.MODULES - {*sys.modules}))\n" + LOADED) == "bz2 locale lzma\n[]"
    )


PARSED = """
import gc, types
from remaphore.cli import arguments, output
from remaphore.cli.commands import {command}
arguments.read([{command!r}])
output.configure_logs("console", level="INFO")
del arguments
def parts():
    classes = {{each.__module__ for each in gc.get_objects() if isinstance(each, type)}}
    return sorted(classes & {{"argparse", "gettext", "pickle", "remaphore.cli.arguments"}})
"""


@pytest.mark.parametrize("command", ["run", "agent"])
def test_what_is_used_once_leaves_the_process_of_a_service_and_can_be_loaded_again(command):
    code = PARSED.format(command=command) + "print(*parts()); deferred.forget_used(); print(parts())\n"
    code += "import argparse, locale, pickle, subprocess; from remaphore.cli import arguments\n"
    code += f"print(arguments.read([{command!r}]).verbose, pickle.loads(pickle.dumps(locale.CODESET)) > 0)"
    assert run(code) == "argparse gettext pickle remaphore.cli.arguments\n[]\nFalse True"


def test_a_process_that_is_not_only_ours_keeps_its_modules():
    code = "sys.meta_path.remove(deferred._DeferringFinder); import argparse\n"
    assert run(code + "deferred.forget_used(); print(sys.modules['argparse'] is argparse)") == "True"


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("import nats.aio.client, nats; print(nats.js.JetStreamContext.__module__)", "nats.js.client"),
        ("import nats.js.errors as e; print(e.NotFoundError.__name__)", "NotFoundError"),  # in the package, and first
        ("from nats.js import api; print(api.StreamConfig.__name__)", "StreamConfig"),
        ("import nats.js.api, nats.js; print(nats.js.__path__ == nats.js.__spec__.submodule_search_locations)", "True"),
        ("from bz2 import compress; import lzma; print(len(compress(b'')), lzma.FORMAT_XZ)", "14 1"),
        (
            "import shutil; print(*sorted(name for name, _ in shutil.get_archive_formats()))",
            "bztar gztar tar xztar zip",
        ),
        ("import html, inspect; print(html.escape('<'), 'def escape' in inspect.getsource(html))", "&lt; True"),
        ("from ipaddress import *; print(ip_address('::1'))", "::1"),
        ("import zipfile; print(hasattr(zipfile, 'nothing'), zipfile.Path.__name__)", "False Path"),
        ("import csv; print(next(csv.reader(['a,b'])))", "['a', 'b']"),
        (
            "import mimetypes, calendar; print(mimetypes.guess_type('a.html')[0], calendar.isleap(2000))",
            "text/html True",
        ),
        ("import asyncio.sslproto as tls; print(tls.SSLProtocol.__name__)", "SSLProtocol"),
        ("from structlog import threadlocal; print(threadlocal.tmp_bind.__name__)", "tmp_bind"),
        ("import json, html.entities; print(html.unescape('&lt;'), html.entities.__name__)", "< html.entities"),
    ],
)
def test_a_module_is_whole_when_it_is_used(code, shown):
    assert run(code) == shown


def test_threads_that_use_a_module_at_the_same_time_all_find_it_loaded():
    code = """
import threading, zipfile
sys.setswitchinterval(1e-6)
start, found = threading.Barrier(8), []
def use():
    start.wait()
    found.append(zipfile.ZipFile.extractall)
threads = [threading.Thread(target=use) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(found), len(set(found)))
"""
    assert run(code) == "8 1"


def test_a_module_that_failed_to_load_is_tried_again(tmp_path):
    (tmp_path / "zipfile.py").write_text(
        "import os\nif os.environ.pop('FAIL', ''): raise OSError('no descriptor')\nnow = 1\n"
    )
    code = f"""
import os; sys.path.insert(0, {str(tmp_path)!r}); os.environ["FAIL"] = "1"
import zipfile
try: zipfile.now
except OSError as error: print(error)
print(zipfile.now)
"""
    assert run(code) == "no descriptor\n1"


@pytest.mark.parametrize(
    ("package", "imported", "used"),
    [
        ("nats.js", "import nats.js.errors; nats.js.errors.NotFoundError", "nats.js.JetStreamContext"),
        ("nats.js", "from nats.js import api, errors; api.StreamConfig", "nats.js.JetStreamManager"),
        ("html", "import html.entities; html.entities.html5", "html.unescape"),
    ],
)
def test_a_thread_that_imports_a_submodule_and_one_that_loads_its_package_both_get_on(package, imported, used):
    code = f"""
import faulthandler, threading, nats.aio.client, nats, html
faulthandler.dump_traceback_later(60, exit=True)
sys.setswitchinterval(1e-6)
deferred.WAIT_SECONDS = 0.5
start, done = threading.Barrier(2), []
def importing():
    start.wait()
    {imported}
    done.append(1)
def using():
    start.wait()
    {used}
    done.append(2)
threads = [threading.Thread(target=target) for target in (importing, using)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sorted(done), '__getattr__' in vars(sys.modules[{package!r}]))
"""
    assert run(code) == "[1, 2] False"
