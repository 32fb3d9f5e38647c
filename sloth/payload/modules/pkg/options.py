"""How a package manager is to be run: the arguments of a call that concern its commands."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Sequence

    from sloth.payload.kernel.resource import Args


class Options(object):
    """What a command is told besides the names of packages.

    lock_timeout: seconds to wait for the package database; install_recommends: None leaves it to the host's settings;
    default_release: apt's -t, or ""; dpkg_options: of dpkg, without their dashes.
    """

    __slots__ = (
        "allow_change_held_packages", "allow_downgrade", "autoremove", "default_release", "dpkg_options",
        "install_recommends", "lock_timeout", "purge",
    )  # fmt: skip

    def __init__(
        self,
        lock_timeout: "float" = 120.0,
        allow_downgrade: "bool" = False,
        install_recommends: "bool | None" = None,
        default_release: "str" = "",
        purge: "bool" = False,
        autoremove: "bool" = False,
        allow_change_held_packages: "bool" = False,
        dpkg_options: "Sequence[str]" = ("force-confdef", "force-confold"),
    ) -> "None":
        self.lock_timeout = lock_timeout
        self.allow_downgrade = allow_downgrade
        self.install_recommends = install_recommends
        self.default_release = default_release
        self.purge = purge
        self.autoremove = autoremove
        self.allow_change_held_packages = allow_change_held_packages
        self.dpkg_options = dpkg_options

    @classmethod
    def of(cls, args: "Args") -> "Options":
        """Return the options among the arguments of a call; each call has some of them."""
        options = cls()
        for name in cls.__slots__:
            value = getattr(args, name, None)
            if value is not None:
                setattr(options, name, value)
        return options
