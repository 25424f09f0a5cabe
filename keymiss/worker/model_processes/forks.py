"""Processes that fork others as they are told to, which a worker or the process above does over a socket."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any

from keymiss.logs import one_line
from keymiss.worker.model_processes.frames import FrameError, receive_with_file, send

PR_SET_PDEATHSIG = 1
ENDING = signal.SIGINT, signal.SIGTERM
REAP_S = 1.0  # how long one that ended by itself is there as a zombie
KEPT_S = 60.0  # how long a model is kept that the next worker does not ask for

_libc = ctypes.CDLL(None)


def tell(control: socket.socket, fields: Mapping[str, Any]) -> None:
    """Who asked may have gone, without a word or with one that is still to be read."""
    with suppress(BrokenPipeError, ConnectionResetError):
        send(control, fields)


def received_files(source: socket.socket, count: int) -> list[int]:
    """Their numbers. EOFError if the other side is gone."""
    _, files, _, _ = socket.recv_fds(source, 1, count)
    if len(files) < count:
        raise EOFError
    return list(files)


def say_it_there(file: int) -> None:
    """Standard output and error are this file from now on."""
    for number in (sys.stdout.fileno(), sys.stderr.fileno()):
        os.dup2(file, number)
    os.close(file)


class Forking:
    """Forks processes that run `body` with the socket they are given, and ends them, as it is told to."""

    def __init__(self, body: Callable[..., None]) -> None:
        self._body = body
        self._forked: set[int] = set()
        self._ended: dict[int, int] = {}

    def obey(self, control: socket.socket) -> None:
        """Until it is told that no more comes. EOFError when who told it is gone, OSError: it cannot fork."""
        while True:
            while not select.select([control], [], [], REAP_S)[0]:
                self.reap()
            try:
                order, file = receive_with_file(control)
            except (OSError, FrameError) as error:
                raise EOFError from error
            if "done" in order.fields:
                return
            tell(control, self.answer(control, order.fields, file))

    def answer(self, control: socket.socket, order: Mapping[str, Any], file: int) -> dict[str, Any]:
        if (pid := order.get("end")) is not None:
            return {"status": self.end(pid)}
        return {"pid": self.fork(control, file, self._body)}

    def fork(self, control: socket.socket, file: int, body: Callable[[socket.socket], None]) -> int:
        """Its process id. Not to wait for: the other side of `file` says what it does."""
        pid = _fork(control, file, body)
        self._forked.add(pid)
        self._ended.pop(pid, None)  # of one before that had this number
        return pid

    def is_there(self, pid: int) -> bool:
        """Else the number may be another's by now."""
        return pid in self._forked and pid not in self._ended

    def end(self, pid: int) -> int:
        """How it ended, as wait() has it."""
        if self.is_there(pid):
            os.kill(pid, signal.SIGKILL)
            self._ended[pid] = os.waitpid(pid, 0)[1]
        self._forked.discard(pid)
        return self._ended.pop(pid, 0)

    def end_all(self, but: Collection[int] = ()) -> None:
        for pid in self._forked.difference(but):
            self.end(pid)

    def reap(self) -> None:
        """How those that it forked ended is kept: their numbers are theirs until somebody asks."""
        with suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                if found[0] in self._forked:
                    self._ended[found[0]] = found[1]


class ForkingModels(Forking):
    """Those with a name (backend and digest) stay when the worker is gone, and the next one gets them. `body`
    gets, besides its socket, the one by which it gets the next worker's."""

    def __init__(self, body: Callable[..., None]) -> None:
        super().__init__(body)
        self._named: dict[int, tuple[str, socket.socket]] = {}
        self._kept: dict[str, int] = {}
        self._kept_until_s = 0.0

    def answer(self, control: socket.socket, order: Mapping[str, Any], file: int) -> dict[str, Any]:
        if "kept" in order:
            return {"pid": self._hand_over(order["kept"], file)}
        if "name" not in order:
            return super().answer(control, order, file)
        near, far = socket.socketpair()

        def body(its_control: socket.socket) -> None:
            near.close()
            self._body(its_control, far)

        with far:
            pid = self.fork(control, file, body)
        self._named[pid] = order["name"], near
        return {"pid": pid}

    def keep(self) -> None:
        """The worker is gone."""
        self.reap()
        self._kept = {name: pid for pid, (name, _) in self._named.items()}
        self._kept_until_s = time.monotonic() + KEPT_S
        self.end_all(but=self._kept.values())

    def _hand_over(self, name: str, file: int) -> int:
        """0 if there is none of this name."""
        pid = self._kept.pop(name, 0)
        try:
            if not self.is_there(pid):
                return 0
            socket.send_fds(self._named[pid][1], [b"!"], [file, sys.stderr.fileno()])
            return pid
        except OSError:
            return 0
        finally:
            os.close(file)

    def reap(self) -> None:
        super().reap()
        if self._kept and time.monotonic() > self._kept_until_s:
            for pid in self._kept.values():
                self.end(pid)
            self._kept = {}
        for pid in [pid for pid in self._named if not self.is_there(pid)]:
            self._named.pop(pid)[1].close()


def _fork(control: socket.socket, file: int, body: Callable[[socket.socket], None]) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid:
        os.close(file)
        return pid
    code = 1
    try:
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)  # the worker gets them too, and ends this one
        control.close()
        _end_with(parent)
        body(socket.socket(fileno=file))
        code = 0
    except (EOFError, ConnectionError):
        code = 0  # whoever it works for is gone
    except BaseException as error:
        print(f"model process: {one_line(error)}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def _end_with(parent: int) -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)
