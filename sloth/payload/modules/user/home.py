"""Creates the home directories of accounts."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pwd import struct_passwd


def make_home(entry: "struct_passwd", skeleton: "str", umask: "int") -> "None":
    """Create the home directory of `entry` from `skeleton`, as useradd does, when nothing exists at its path."""
    if os.path.lexists(entry.pw_dir):
        return
    import shutil

    os.makedirs(os.path.dirname(entry.pw_dir), exist_ok=True)
    # Created under another name and renamed when complete, so that a killed run leaves no partial home.
    temporary = "%s.sloth-%s" % (entry.pw_dir.rstrip("/"), os.urandom(6).hex())
    try:
        if os.path.isdir(skeleton):
            shutil.copytree(skeleton, temporary, symlinks=True)
        else:
            os.mkdir(temporary)
        for root, directories, names in os.walk(temporary):
            for name in directories + names:
                os.chown(os.path.join(root, name), entry.pw_uid, entry.pw_gid, follow_symlinks=False)
        os.chown(temporary, entry.pw_uid, entry.pw_gid)
        os.chmod(temporary, 0o777 & ~umask)
        os.rename(temporary, entry.pw_dir)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def read_home_umask() -> "int":
    """Return the umask of new homes from /etc/login.defs: HOME_MODE, else UMASK, else 022."""
    values: "dict[str, str]" = {}
    try:
        with open("/etc/login.defs", encoding="utf-8", errors="replace") as file:
            for line in file:
                words = line.split()
                if len(words) > 1:
                    values[words[0]] = words[1]
    except OSError:
        pass
    try:
        if "HOME_MODE" in values:
            return 0o777 & ~int(values["HOME_MODE"], 8)
        return int(values.get("UMASK", "022"), 8)
    except ValueError:
        return 0o022
