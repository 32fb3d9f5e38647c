"""Two threads and what they share, without `threading`, which takes a twentieth of a payload's start to load."""

import _thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

allocate_lock = _thread.allocate_lock


def start(function: "Callable[[], None]") -> "None":
    """Call `function` in a thread that ends with the process."""
    _thread.start_new_thread(function, ())


class Condition(object):
    """A lock, and waiting until another thread has changed what it guards: as threading.Condition.

    Other than there, a thread that holds it twice (a signal handler interrupts it) cannot wait.
    """

    def __init__(self) -> "None":
        self._lock = _thread.RLock()
        self._waiting: "list[_thread.LockType]" = []
        self.acquire = self._lock.acquire
        self.release = self._lock.release

    def __enter__(self) -> "None":
        self.acquire()

    def __exit__(self, *raised: "object") -> "None":
        self.release()

    def wait(self, seconds: "float") -> "None":
        """Give the lock away until it was notified, or until so much time has passed, and take it again."""
        waiter = allocate_lock()
        waiter.acquire()
        self._waiting.append(waiter)
        self.release()
        try:
            waiter.acquire(True, seconds)
        finally:
            self.acquire()
            try:
                self._waiting.remove(waiter)
            except ValueError:  # it was notified
                pass

    def notify_all(self) -> "None":
        """Wake all who wait, as soon as the lock, which the caller holds, is free."""
        for waiter in self._waiting[:]:
            try:
                waiter.release()
            except RuntimeError:  # a signal handler has, in the middle of this
                pass
        del self._waiting[:]
