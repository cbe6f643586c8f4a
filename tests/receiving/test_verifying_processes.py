"""Whatever becomes of a verifying process: order is kept, nothing is lost, and nothing is valid without a signature."""

import asyncio
import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from remaphore.protocol import verifier_worker, wire
from remaphore.protocol.keys import library_folders
from remaphore.receiving import verifying_processes as module
from remaphore.receiving.batches import BATCH_MESSAGES, Arrival
from remaphore.receiving.verifier import Verifier
from remaphore.tasks import spawn
from tests.harness.factories import NOW, make_encoded, make_gate
from tests.harness.processes import own_children
from tests.harness.seccomp import denying
from tests.harness.verifying import for_each
from tests.harness.waiting import until

ROOT = Path(__file__).parents[2]
GATE = make_gate()
RAWS = [make_encoded(payload=b"%04d" % number) for number in range(500)]
# Every third is forged.
ARRIVALS = [Arrival(GATE, wire.decode(raw if number % 3 else raw[:-1] + b"?"), NOW) for number, raw in enumerate(RAWS)]
EXPECTED = [(arrival.frame.payload, bool(number % 3)) for number, arrival in enumerate(ARRIVALS)]

# A program that speaks as the worker does: `answer(number, results)` is what it writes for the batch *number*, the
# first is the probe.
PRETENDER = """
import os, runpy, struct, sys, time
read, head = sys.stdin.buffer.read, struct.Struct(">BQII")
def write(data):
    os.write(1, data)
def answer(number, results, version=1):
    return struct.pack(">BQI", version, number, len(results)) + bytes(results)
batches = 0
while len(data := read(head.size)) == head.size:
    version, number, count, total = head.unpack(data)
    lengths, data = struct.unpack(">%dI" % count, read(4 * count)), read(total)
    probe = not batches
    batches += 1
    good = [1, 0] if probe else [1] * count
    {action}
"""
VERIFY_ALL = """sys.path += sys.argv[1:]
    worker = runpy.run_path({worker!r})
    verify = worker["make_verify"](worker["find_verify"](), worker["PublicKeys"]())
    ends = [sum(lengths[:index + 1]) for index in range(count)]
    write(answer(number + (not probe), [verify(data[end - length : end]) for end, length in zip(ends, lengths)]))
"""
PRETENDERS = {
    "verifies, and answers for another batch": VERIFY_ALL.format(worker=verifier_worker.__file__),
    "ends at once": "sys.exit(3)",
    "finds everything valid after the probe": "write(answer(number, good))",
    "finds everything valid": "write(answer(number, [1] * count))",
    "finds nothing valid": "write(answer(number, [0] * count))",
    "answers for another batch": "write(answer(number if probe else number + 1, good))",
    "answers with another version": "write(answer(number, good, version=2))",
    "answers too few": "write(answer(number, good if probe else good[1:]))",
    "answers too many": "write(answer(number, good if probe else good + [1]))",
    "answers twice": "write(answer(number, good) * (1 if probe else 2)); time.sleep(60)",
    "answers before it is asked": "write(answer(number, good) + answer(number + 1, [1] * 64)); time.sleep(60)",
    "answers neither yes nor no": "write(answer(number, good if probe else [2] * count))",
    "breaks off within an answer": "write(answer(number, good)[: None if probe else -1]); probe or sys.exit()",
    "writes text": "write(b'Traceback (most recent call last): ' * 9)",
    "never answers": "time.sleep(60)",
    "answers the probe only": "probe and write(answer(number, good)); probe or time.sleep(60)",
}


@pytest.fixture(autouse=True)
def two_processors(monkeypatch):
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _pid: {0, 1})


@pytest.fixture
def results():
    return []


@pytest.fixture
def started():
    """What returns the pids of the processes that this test has started; a broker that all tests share may run, too."""
    before = own_children()
    return lambda: own_children() - before


@pytest.fixture
async def verifier(results, started):
    own = Verifier(for_each(lambda arrival, verified: results.append((arrival.frame.payload, verified))))
    yield own
    own.close()
    assert not started()


def processes(verifier):
    return list(verifier._processes._processes)


def kill(process):
    """Return when *process* has ended, and is not reaped."""
    process._child.kill()
    os.waitid(os.P_PID, process._child.pid, os.WEXITED | os.WNOWAIT)


async def flood(verifier, times=1):
    for _ in range(times):
        for arrival in ARRIVALS:
            assert verifier.put(arrival)
    async with asyncio.timeout(60):
        await verifier.join()


async def test_a_process_is_ours_and_has_nothing_of_ours(verifier, results, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("SECRET", "not for it")
    await flood(verifier)
    assert results == EXPECTED
    pids = [process._child.pid for process in processes(verifier)]
    assert len(pids) == 2
    for pid in pids:
        proc = Path(f"/proc/{pid}")
        words = proc.joinpath("cmdline").read_bytes().decode().split("\0")[1:-1]
        assert words == ["-I", "-S", verifier_worker.__file__, *library_folders()]  # what `ps` shows
        assert b"SECRET" not in proc.joinpath("environ").read_bytes()
        assert os.getsid(pid) == os.getsid(0)  # or hooks-d would take it for what a handler left behind
        assert os.getpgid(pid) == pid != os.getpgid(0)  # Ctrl-C is for us
        assert proc.joinpath("cwd").readlink() == Path("/")
        assert len([*proc.joinpath("fd").iterdir()]) == 3


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("how", ["one", "all", "one by one"])
@pytest.mark.parametrize("rounds", [1, pytest.param(30, marks=pytest.mark.long)])
async def test_processes_that_are_ended_in_a_flood_cost_nothing(verifier, results, monkeypatch, number, how, rounds):
    if number == signal.SIGSTOP:  # a busy machine may make a process that is well look as if it were stopped
        monkeypatch.setattr(module, "STALL_SECONDS", 0.3)
    monkeypatch.setattr(module, "WATCH_SECONDS", 0.1)
    for _ in range(rounds):
        results.clear()
        verifier._processes._retry_at = 0.0
        flooding = spawn(flood(verifier, 3), name="flood")
        await until(lambda: len(results) > BATCH_MESSAGES)
        victims = processes(verifier)
        for process in victims[:1] if how == "one" else victims:
            os.kill(process._child.pid, number)
            if how == "one by one":
                done = len(results)
                await until(lambda done=done, flooding=flooding: len(results) > done or flooding.done())
        await flooding
        assert results == EXPECTED * 3
        assert verifier.waiting == 0
        await flood(verifier)  # with what is left, or without any
        assert results == EXPECTED * 4
        left = {1} if how == "one" and number == signal.SIGKILL else {0, how == "one"}
        await until(lambda left=left: len(processes(verifier)) in left)


@pytest.mark.parametrize("name", PRETENDERS)
async def test_a_process_that_does_something_else_is_not_believed(verifier, results, monkeypatch, tmp_path, name):
    monkeypatch.setattr(module, "STALL_SECONDS", 0.3)
    monkeypatch.setattr(module, "WATCH_SECONDS", 0.1)
    program = tmp_path / "pretender.py"
    program.write_text(PRETENDER.format(action=PRETENDERS[name]))
    monkeypatch.setattr(module.verifier_worker, "__file__", str(program))
    await flood(verifier)
    assert results == EXPECTED
    assert processes(verifier) == []


def no_program(monkeypatch, tmp_path):
    monkeypatch.setattr(module.verifier_worker, "__file__", str(tmp_path / "remaphore.pyz" / "verifier_worker.py"))


def no_pynacl(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "library_folders", lambda: (str(tmp_path),))


def no_name_of_the_interpreter(monkeypatch, _tmp_path):
    monkeypatch.setattr(sys, "executable", "")


def no_interpreter(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python-of-last-week"))


def no_permission(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path))


def another_program(monkeypatch, _tmp_path):
    monkeypatch.setattr(sys, "executable", "/bin/true")


def failing(error, after=0):
    def prevent(monkeypatch, _tmp_path, popen=subprocess.Popen):
        started = []

        def start(*words, **options):
            started.append(words)
            if len(started) > after:
                raise error
            return popen(*words, **options)

        monkeypatch.setattr(module.subprocess, "Popen", start)

    return prevent


def no_descriptor(monkeypatch, _tmp_path):
    used = max(int(each.name) for each in Path("/proc/self/fd").iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    filling = []

    class Limited:
        def __enter__(self):
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, hard))
            try:
                while True:
                    filling.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                pass

        def __exit__(self, *_error):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for each in filling:
                os.close(each)

    return Limited()


@pytest.mark.parametrize(
    "prevent",
    [
        no_program,
        no_pynacl,
        no_name_of_the_interpreter,
        no_interpreter,
        no_permission,
        another_program,
        pytest.param(failing(BlockingIOError("Resource temporarily unavailable")), id="no_process"),
        pytest.param(failing(BlockingIOError("Resource temporarily unavailable"), after=1), id="one_process_only"),
        pytest.param(failing(MemoryError()), id="no_memory"),
        pytest.param(failing(PermissionError("Operation not permitted")), id="seccomp"),
        no_descriptor,
    ],
)
async def test_without_processes_the_daemon_verifies(verifier, results, monkeypatch, tmp_path, prevent):
    limit = prevent(monkeypatch, tmp_path)
    if limit is not None:
        with limit:
            await flood(verifier)
    else:
        await flood(verifier)
    assert results == EXPECTED
    assert verifier.waiting == 0


async def test_what_failed_is_tried_again_after_a_minute(verifier, results, monkeypatch):
    with monkeypatch.context() as patch:
        failing(OSError("no process"))(patch, None)
        await flood(verifier)
        assert processes(verifier) == []
    await flood(verifier)
    assert processes(verifier) == []
    verifier._processes._retry_at -= module.RETRY_SECONDS
    await flood(verifier)
    assert len(processes(verifier)) == 2
    assert results == EXPECTED * 3


async def test_an_error_while_a_batch_is_sent_costs_the_process_and_no_message(verifier, results, monkeypatch):
    monkeypatch.setattr(module.VerifyingProcess, "_ask", failing_after(module.VerifyingProcess._ask, 3))
    await flood(verifier)
    assert results == EXPECTED


def failing_after(function, times):
    calls = []

    def call(*arguments):
        calls.append(arguments)
        if len(calls) > times:
            raise MemoryError
        return function(*arguments)

    return call


async def test_where_sigchld_is_ignored_processes_are_ended_too(verifier, results, started):
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps them
    try:
        await flood(verifier)
        verifier.close()
        assert not started()
        assert results == EXPECTED
    finally:
        signal.signal(signal.SIGCHLD, before)


async def test_a_host_that_sigpipe_would_end_lives_on_without_a_process(verifier, results):
    signals = []
    await flood(verifier)
    before = signal.signal(signal.SIGPIPE, lambda number, _frame: signals.append(number))
    try:
        for process in processes(verifier):
            kill(process)
        await flood(verifier)  # the first batches are sent before the end of the processes is seen
    finally:
        signal.signal(signal.SIGPIPE, before)
    assert signals == []
    assert results == EXPECTED * 2


async def test_the_log_has_the_exit_status_of_a_lost_process(verifier, results, monkeypatch):
    no_program(monkeypatch, Path("/nowhere"))
    with structlog.testing.capture_logs() as logged:
        await flood(verifier)
    lost = [each["exit_status"] for each in logged if each["event"] == "verifying_process_lost"]
    # One that ends while it is asked for the first time could not be started.
    failed = [each["error"] for each in logged if each["event"] == "verifying_process_unavailable"]
    assert lost or failed
    assert set(lost) <= {2}
    assert results == EXPECTED


async def test_signals_for_all_processes_of_a_service_are_for_the_daemon_alone(verifier, results):
    await flood(verifier)
    with structlog.testing.capture_logs() as logged:
        before = processes(verifier)
        for process in before:
            for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
                os.kill(process._child.pid, number)
        await flood(verifier)
    assert (processes(verifier), logged) == (before, [])
    assert results == EXPECTED * 2


async def test_processes_end_when_there_was_no_work_for_a_while(verifier, results, started, monkeypatch):
    monkeypatch.setattr(module, "WATCH_SECONDS", 0.05)
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.2)
    assert processes(verifier) == []  # none before the first flood
    await flood(verifier)
    assert len(processes(verifier)) == 2
    await until(lambda: not started())
    assert verifier._processes._watch is None
    await flood(verifier)
    assert len(processes(verifier)) == 2
    assert results == EXPECTED * 2


FILTERED = """
import asyncio, os, sys
from remaphore.receiving import verifying_processes
from tests.receiving.test_verifying_processes import EXPECTED, Verifier, flood, for_each
if sys.argv[1:] == ["lost"]:
    verifying_processes.os.sched_getaffinity = lambda _pid: {0, 1}
    verifying_processes.library_folders = lambda: ("/nowhere",)
async def main():
    results = []
    verifier = Verifier(for_each(lambda arrival, verified: results.append((arrival.frame.payload, verified))))
    await flood(verifier)
    verifier.close()
    assert results == EXPECTED
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("calls", "words"), [(["kill", "wait4"], ["lost"]), (["kill", "wait4"], []), (["sched_getaffinity"], [])]
)
def test_a_system_call_filter_costs_no_message(calls, words):
    command = [*denying(errno.EPERM, *calls), sys.executable, "-c", FILTERED, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stdout) == (0, "")  # stdout is that of the program that uses `Node.receive`
    events = {line.partition(" ")[0] for line in done.stderr.splitlines()}
    assert events <= {"verifying_process_lost", "verifying_process_unavailable"}
    assert bool(events) == bool(words)


# Packages in a folder of their own, as `pip install --target` makes it: nothing but PYTHONPATH names them.
KILLED = """
import asyncio, os
from remaphore.receiving import verifying_processes
from tests.receiving.test_verifying_processes import ARRIVALS, Verifier, for_each, processes
verifying_processes.os.sched_getaffinity = lambda _pid: {0, 1}
async def main():
    verifier = Verifier(for_each(lambda _arrival, _verified: None))
    for arrival in ARRIVALS:
        verifier.put(arrival)
    await verifier.join()
    print(*[process._child.pid for process in processes(verifier)], flush=True)
    for arrival in ARRIVALS * 40:
        verifier.put(arrival)
    await asyncio.sleep(60)
asyncio.run(main())
"""


def has_ended(pid):
    """Return whether a process has ended; a zombie has, which a test worker that became a subreaper does not reap."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_processes_end_with_a_daemon_that_was_killed():
    folders = os.pathsep.join([*library_folders(), str(ROOT)])
    words = [sys._base_executable, "-S", "-c", KILLED]
    environment = {"PYTHONPATH": folders, "PATH": os.environ["PATH"]}
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as daemon:
        pids = daemon.stdout.readline().split()
        assert len(pids) == 2
        daemon.kill()
    asyncio.run(until(lambda: all(map(has_ended, pids))))
