"""How many files a process may have open: hosts that wait for others keep their connections."""

from __future__ import annotations

EACH = 4  # descriptors of a host; one for SSH, and three pipes for a host that is this machine
OTHERS = 128  # of everything else
FEW = 16  # hosts for which any limit is high enough
MAC = 10_240  # what macOS permits where it says that there is no limit


def raise_limit(hosts: int) -> None:
    """Raise the limit of this process, as far as it may, to what so many hosts can need at once.

    Systems have a low limit for programs that use select(), of 256 or 1,024, and a high one to which a program may
    raise it. One that is high enough is left alone: programs that are started inherit it.
    """
    if hosts <= FEW:
        return
    import resource  # few runs need it

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = EACH * hosts + OTHERS
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    for wanted in (needed if hard == resource.RLIM_INFINITY else min(needed, hard), MAC):
        if wanted > soft:
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            except (OSError, ValueError):
                continue
            return
