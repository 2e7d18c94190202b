"""What a reader may not do: run programs, open connections, import by name, write elsewhere."""

import os
import sys
from pathlib import Path
from typing import Any

# Planted in inputs: no reader may import this module, and none may read this file.
CANARY_MODULE = "fuzz_canary"
CANARY_TEXT = "canary of the fuzz harness"

RUNS = {"os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "pty.spawn"}
CONNECTS = {
    "socket.connect",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "socket.sendto",
    "urllib.Request",
}
# Events whose arguments are paths that change; the numbers of the paths among them.
CHANGES = {
    "os.remove": (0,),
    "os.rmdir": (0,),
    "os.mkdir": (0,),
    "os.rename": (0, 1),
    "os.link": (0, 1),
    "os.symlink": (1,),
    "os.truncate": (0,),
    "os.chmod": (0,),
    "os.chown": (0,),
    "os.utime": (0,),
    "shutil.rmtree": (0,),
}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Devices and the kernel's files: writing to them leaves nothing.
NOWHERE = ("/dev/null", "/proc/self/")


class ForbiddenActionError(BaseException):
    """A reader tried what no file may cause. Not an Exception, so that nobody swallows it."""


def forbid(scratch: Path, canary: Path, report: int) -> None:
    """Refuse forbidden actions in this process and its children, for ever.

    Args:
        scratch: the one folder that may be written to.
        canary: a file outside it that no reader may open.
        report: file descriptor for a line on each forbidden action; a child has no other
            way to tell.
    """
    inside = str(scratch.resolve()) + os.sep

    def refuse(action: str) -> None:
        os.write(report, f"{' '.join(action.split())[:300]}\n".encode("utf-8", "replace"))
        raise ForbiddenActionError(action)

    def is_outside(path: Any) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        text = os.fsdecode(path)
        resolved = os.path.realpath(text) + os.sep
        return not (text.startswith(NOWHERE) or resolved.startswith(inside))

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & WRITES and is_outside(path):
                refuse(f"writes to {path!r}")
            if isinstance(path, str) and path.endswith(canary.name):
                refuse(f"reads {path!r}")
        elif event == "import":
            if arguments[0].partition(".")[0] == CANARY_MODULE:
                refuse(f"imports {arguments[0]}")
        elif event == "pickle.find_class":
            refuse(f"unpickles {arguments[0]}.{arguments[1]}")
        elif event in RUNS:
            refuse(f"runs a program ({event} {arguments[0]!r})")
        elif event in CONNECTS:
            refuse(f"connects ({event})")
        elif event in CHANGES:
            for number in CHANGES[event]:
                if is_outside(arguments[number]):
                    refuse(f"changes {arguments[number]!r} ({event})")

    # A module that a reader imports late would store its bytecode beside itself.
    sys.dont_write_bytecode = True
    sys.addaudithook(hook)
