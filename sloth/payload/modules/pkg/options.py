"""How a package manager is to be run: the arguments of a call that concern its commands."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.resource import Args


class Options(object):
    """What a command is told besides the names of packages.

    lock_timeout: seconds to wait for the package database; install_recommends: None leaves it to the host's settings;
    default_release: apt's -t, or "".
    """

    __slots__ = (
        "allow_downgrade", "autoremove", "default_release", "install_recommends", "lock_timeout", "purge",
    )  # fmt: skip

    def __init__(
        self,
        lock_timeout: "float" = 120.0,
        allow_downgrade: "bool" = False,
        install_recommends: "bool | None" = None,
        default_release: "str" = "",
        purge: "bool" = False,
        autoremove: "bool" = False,
    ) -> "None":
        self.lock_timeout = lock_timeout
        self.allow_downgrade = allow_downgrade
        self.install_recommends = install_recommends
        self.default_release = default_release
        self.purge = purge
        self.autoremove = autoremove

    @classmethod
    def of(cls, args: "Args") -> "Options":
        """Return the options among the arguments of a call; each call has some of them."""
        options = cls()
        for name in cls.__slots__:
            value = getattr(args, name, None)
            if value is not None:
                setattr(options, name, value)
        return options
