"""Log files: batches, full pipes, rotation, several writers.  Real files, virtual time."""

import fcntl
import os
import subprocess
import sys

import pytest

from weft.proxy.deadlines import Deadlines
from weft.proxy.observe import files as module
from weft.proxy.observe.files import BUFFER_LIMIT, FLUSH_SIZE, LogFile, LogFiles
from weft.proxy.observe.stats import Store
from weft.testing import VirtualLoop


@pytest.fixture
def loop():
    loop = VirtualLoop(0)
    yield loop
    loop.close()


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def files(loop, store):
    files = LogFiles(Deadlines(loop), store)
    yield files
    files.close()


@pytest.fixture
def stats(store):
    def read():
        snapshot = store.snapshot()
        values = {**snapshot.counters, **snapshot.gauges}
        return {name.removeprefix("filesystem."): value for name, value in values.items() if value}

    return read


def pass_time(loop, seconds):
    loop.call_later(seconds, loop.stop)
    loop.run_forever()


def pipe(size=4096):
    """(read end, write end), both non-blocking, holding ``size`` bytes."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, size)
    return reader, writer


def read_all(fd):
    out = b""
    try:
        while data := os.read(fd, 1 << 20):
            out += data
    except BlockingIOError:
        pass
    return out


def test_lines_wait_for_the_interval(files, loop, tmp_path, stats):
    path = tmp_path / "a.log"
    log = files.open(str(path))

    log.write(b"one\n")
    log.write(b"two\n")
    pass_time(loop, 0.9)
    before = (path.read_bytes(), stats())
    pass_time(loop, 0.2)

    assert before == (b"", {"write_buffered": 2, "write_total_buffered": 8})
    assert path.read_bytes() == b"one\ntwo\n"
    assert stats() == {"write_buffered": 2, "write_completed": 1, "flushed_by_timer": 1}


def test_the_next_line_waits_anew(files, loop, tmp_path):
    path = tmp_path / "a.log"
    log = files.open(str(path))
    log.write(b"one\n")
    pass_time(loop, 5)

    log.write(b"two\n")
    pass_time(loop, 0.5)
    early = path.read_bytes()
    pass_time(loop, 0.6)

    assert (early, path.read_bytes()) == (b"one\n", b"one\ntwo\n")


def test_much_does_not_wait(files, tmp_path, stats):
    path = tmp_path / "a.log"
    log = files.open(str(path))
    line = b"x" * 1023 + b"\n"

    for _ in range(FLUSH_SIZE // 1024):
        log.write(line)

    assert path.stat().st_size == FLUSH_SIZE
    assert stats()["write_completed"] == 1


def test_one_path_is_one_file(files, tmp_path):
    assert files.open(str(tmp_path / "a.log")) is files.open(str(tmp_path / "a.log"))
    assert files.open("/dev/stdout") is files.stream(1)
    assert files.open("/dev/stderr") is files.stream(2)


def test_what_is_there_is_kept(files, tmp_path):
    path = tmp_path / "a.log"
    path.write_bytes(b"old\n")

    files.open(str(path)).write(b"new\n")
    files.flush()

    assert path.read_bytes() == b"old\nnew\n"


def test_a_path_that_cannot_be_opened(files, tmp_path):
    with pytest.raises(FileNotFoundError):
        files.open(str(tmp_path / "none" / "a.log"))


def test_rotation_loses_nothing(files, tmp_path):
    path, rotated = tmp_path / "a.log", tmp_path / "a.log.1"
    log = files.open(str(path))

    for i in range(100):
        log.write(b"%d\n" % i)
        if i == 49:
            path.rename(rotated)
        if i == 69:
            files.reopen()
    files.flush()

    assert rotated.read_bytes() == b"".join(b"%d\n" % i for i in range(70))
    assert path.read_bytes() == b"".join(b"%d\n" % i for i in range(70, 100))


def test_a_failed_rotation_goes_on_in_the_old_file(files, tmp_path, stats):
    folder = tmp_path / "logs"
    folder.mkdir()
    log = files.open(str(folder / "a.log"))
    folder.rename(tmp_path / "moved")
    log.write(b"one\n")

    files.reopen()
    log.write(b"two\n")
    files.flush()

    assert (tmp_path / "moved" / "a.log").read_bytes() == b"one\ntwo\n"
    assert stats()["reopen_failed"] == 1


def test_closing_writes_what_waits(loop, tmp_path):
    files = LogFiles(Deadlines(loop))
    files.open(str(tmp_path / "a.log")).write(b"last\n")

    files.close()

    assert (tmp_path / "a.log").read_bytes() == b"last\n"


def test_a_full_disk_costs_lines_not_the_proxy(files, stats):
    if not os.access("/dev/full", os.W_OK):
        pytest.skip("no /dev/full")
    log = files.open("/dev/full")

    log.write(b"lost\n")
    files.flush()

    assert stats() == {"write_buffered": 1, "write_failed": 1}


@pytest.fixture
def stuffed(files, loop):
    """A log into a pipe of 4096 bytes that nobody has read, with 64 lines of 128 bytes written to it."""
    reader, writer = pipe()
    log = LogFile("", writer, 0.1, FLUSH_SIZE, files)
    lines = [b"%0127d\n" % i for i in range(64)]
    for line in lines:
        log.write(line)
    yield log, reader, lines
    read_all(reader)
    log.close()
    os.close(reader)


def test_a_full_pipe_is_tried_again(stuffed, loop, stats):
    _, reader, lines = stuffed

    pass_time(loop, 1)
    waiting = stats()["write_total_buffered"]
    first = read_all(reader)
    pass_time(loop, 1)
    second = read_all(reader)

    assert waiting == 64 * 128 - 4096
    assert first + second == b"".join(lines)
    assert "write_failed" not in stats()


def test_a_pipe_gets_whole_lines(stuffed, loop):
    log, reader, lines = stuffed
    log.write(b"odd\n")
    out = b""
    for _ in range(20):
        pass_time(loop, 0.2)
        piece = read_all(reader)
        assert piece == b"" or piece.endswith(b"\n")
        out += piece

    assert out == b"".join(lines) + b"odd\n"


def test_a_line_longer_than_the_pipe(files, loop):
    reader, writer = pipe()
    log = LogFile("", writer, 0.1, FLUSH_SIZE, files)
    log.write(b"y" * 10_000 + b"\n")
    log.write(b"next\n")

    out = b""
    for _ in range(10):
        pass_time(loop, 0.2)
        out += read_all(reader)

    assert out == b"y" * 10_000 + b"\nnext\n"
    log.close()
    os.close(reader)


def test_what_a_stuck_pipe_cannot_hold_is_dropped_and_counted(files, loop, stats):
    reader, writer = pipe()
    log = LogFile("", writer, 0.1, FLUSH_SIZE, files)
    line = b"z" * 1023 + b"\n"

    for _ in range(BUFFER_LIMIT // 1024 + 100):
        log.write(line)

    counts = stats()
    assert counts["write_failed"] == 100 - 4  # four lines are in the pipe itself
    assert counts["write_total_buffered"] == BUFFER_LIMIT
    read_all(reader)
    log.write(line)
    assert stats()["write_failed"] == 97
    pass_time(loop, 0.2)
    log.write(line)
    assert stats()["write_failed"] == 97
    os.close(reader)
    log.close()


def test_a_pipe_whose_reader_is_gone_does_not_pile_up(files, loop, stats):
    reader, writer = pipe()
    log = LogFile("", writer, 0.1, FLUSH_SIZE, files)
    os.close(reader)

    log.write(b"to nobody\n")
    pass_time(loop, 1)

    assert stats()["write_failed"] == 1
    assert "write_total_buffered" not in stats()
    log.close()


def test_closing_does_not_wait_for_ever(files, stats, monkeypatch):
    monkeypatch.setattr(module, "CLOSE_PATIENCE", 0.01)
    reader, writer = pipe()
    log = LogFile("", writer, 0.1, FLUSH_SIZE, files)
    for i in range(64):
        log.write(b"%0127d\n" % i)

    log.close()

    assert stats()["write_failed"] == 32
    assert read_all(reader) == b"".join(b"%0127d\n" % i for i in range(32))
    os.close(reader)


def test_a_blocking_stream_that_others_share_is_not_waited_for(files, loop):
    reader, writer = pipe()
    os.set_blocking(writer, True)
    log = LogFile("", writer, 0.1, FLUSH_SIZE, files)
    for i in range(64):
        log.write(b"%0127d\n" % i)

    pass_time(loop, 1)
    first = read_all(reader)
    pass_time(loop, 1)

    assert first + read_all(reader) == b"".join(b"%0127d\n" % i for i in range(64))
    assert os.get_blocking(writer)
    log.close()
    os.close(reader)


def test_a_fifo_is_opened_without_waiting_for_its_reader(files, tmp_path):
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    log = files.open(path)
    log.write(b"hello\n")
    files.flush()
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    assert os.read(reader, 100) == b"hello\n"
    os.close(reader)


WRITER = """
import sys
from weft.proxy.deadlines import Deadlines
from weft.proxy.observe.files import LogFiles
from weft.testing import VirtualLoop

files = LogFiles(Deadlines(VirtualLoop(0)), flush_size=2000)
log = files.stream(1) if sys.argv[1] == "-" else files.open(sys.argv[1])
for i in range(3000):
    log.write((sys.argv[2] * (20 + i % 50) + f" {i}\\n").encode())
files.close()
"""


def test_lines_of_several_processes_do_not_mix(tmp_path):
    path = tmp_path / "shared.log"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    workers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), letter], env=environment)
        for letter in "abc"
    ]

    assert [worker.wait(20) for worker in workers] == [0, 0, 0]

    lines = path.read_text().splitlines()
    assert len(lines) == 9000
    for letter in "abc":
        mine = [line for line in lines if line.startswith(letter)]
        assert mine == [f"{letter * (20 + i % 50)} {i}" for i in range(3000)]


def test_stdout_as_a_pipe_arrives_whole(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    done = subprocess.run(
        [sys.executable, "-c", WRITER, "-", "q"], env=environment, capture_output=True, timeout=20, check=True
    )

    assert done.stdout.decode().splitlines() == [f"{'q' * (20 + i % 50)} {i}" for i in range(3000)]
