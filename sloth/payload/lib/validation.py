"""The arguments `validate` and `backup`: a command checks a new file before it is used, and the old one is kept."""

import os

from sloth.payload.kernel.resource import ArgumentError, Failed, Field
from sloth.payload.lib.regex import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from sloth.payload.kernel.resource import Args
    from sloth.payload.lib.host import Host

VALIDATE = Field(
    "validate",
    how=True,
    help="a command that must succeed before the new content replaces the old; %s stands for the path of a file with "
    'the new content ("visudo -cf %s"); it runs without a shell, and only when the content changes',
)
BACKUP = Field("backup", "bool", False, how=True, help="keep a copy of the old file beside it: PATH.PID.DATE@TIME~")


def check_validate(args: "Args") -> "None":
    """Raise ArgumentError when args.validate has no %s for the path of the file."""
    if args.validate is not None and "%s" not in args.validate:
        raise ArgumentError(
            "validate must contain %%s: %s" % args.validate, hint="%s stands for the file to check, as in visudo -cf %s"
        )


def validation(args: "Args", host: "Host") -> "Callable[[str], None] | None":
    """Return a function for replace() that runs the command args.validate, or None. Raises ArgumentError."""
    if args.validate is None:
        return None
    check_validate(args)
    import shlex

    try:
        words = shlex.split(args.validate)
    except ValueError as error:
        raise ArgumentError("validate is not a command: %s: %s" % (error, args.validate))

    def validate(path: "str") -> "None":
        argv = []
        for word in words:
            word = os.path.expanduser(os.path.expandvars(word))
            argv.append(re.sub("%[s%]", lambda found: path if found.group() == "%s" else "%", word))
        try:
            done = host.run(argv)
        except OSError as error:
            raise Failed("failed to validate: cannot run %s: %s" % (argv[0], error.strerror))
        if done.exit_code != 0:
            stderr = done.stderr.decode("utf-8", "replace")
            raise Failed(
                "failed to validate: rc:%d error:%s" % (done.exit_code, stderr),
                hint="the old file is unchanged",
                detail=done.stdout.decode("utf-8", "replace") + stderr,
            )

    return validate
