"""Frames and descriptors arrive whole, in order, whatever the pieces they were written in."""

import asyncio
import os
import socket

import pytest

from weft.proxy.process.channel import Channel


class End:
    """One end that remembers what came."""

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self.got: list[tuple[int, int, bytes, list[int]]] = []
        self.lost = 0
        self.arrived = asyncio.Event()
        self.channel = Channel(sock, loop, self._message, self._closed)

    def _message(self, kind, tag, body, fds):
        self.got.append((kind, tag, body, fds))
        self.arrived.set()

    def _closed(self):
        self.lost += 1
        self.arrived.set()

    async def until(self, count):
        while len(self.got) < count and not self.lost:
            self.arrived.clear()
            await self.arrived.wait()


async def _pair():
    left, right = socket.socketpair()
    loop = asyncio.get_running_loop()
    return End(left, loop), End(right, loop)


def _run(coroutine):
    with asyncio.Runner() as runner:
        return runner.run(asyncio.wait_for(coroutine, 10))


@pytest.mark.parametrize(
    "size", [0, 1, 100_000, 3_000_000], ids=["empty", "tiny", "chunks", "more-than-the-buffer"]
)
def test_a_frame_arrives_whole(size):
    async def play():
        left, right = await _pair()
        left.channel.send(7, b"x" * size, tag=9)
        left.channel.send(8, b"after")
        await right.until(2)
        assert right.got == [(7, 9, b"x" * size, []), (8, 0, b"after", [])]
        assert left.channel.waiting == 0
        left.channel.close()
        right.channel.close()

    _run(play())


def test_descriptors_come_with_their_frame():
    async def play():
        left, right = await _pair()
        readers, writers = zip(*(os.pipe() for _ in range(3)), strict=True)
        left.channel.send(1, b"none")
        left.channel.send(2, b"b" * 500_000, fds=readers[:2])
        left.channel.send(3, b"", fds=readers[2:])
        await right.until(3)
        assert [(kind, len(fds)) for kind, _, _, fds in right.got] == [(1, 0), (2, 2), (3, 1)]
        for number, writer in enumerate(writers):
            os.write(writer, b"%d" % number)
        assert [os.read(fd, 10) for _, _, _, fds in right.got for fd in fds] == [b"0", b"1", b"2"]
        for fd in (*readers, *writers, *(fd for _, _, _, fds in right.got for fd in fds)):
            os.close(fd)
        left.channel.close()
        right.channel.close()

    _run(play())


def test_the_other_end_going_is_told_once():
    async def play():
        left, right = await _pair()
        left.channel.send(1, b"last words")
        left.channel.close()
        await right.until(2)
        assert (right.got, right.lost, right.channel.closed) == ([(1, 0, b"last words", [])], 1, True)
        right.channel.send(1, b"to nobody")
        assert left.lost == 0

    _run(play())
