"""Files for module authors: write one with replace(), look at one with look(), and give it an owner and a mode.

The one way to write a file:

    files.replace(path, b"new content")

It is atomic (readers and killed runs see the old file or the new one), keeps the owner, mode, ACLs, SELinux context
and extended attributes of the old file, follows no link at `path`, and leaves nothing behind when it fails. Do not
use open(path, "w"), nor a temporary file of your own. A resource with owner, group and mode uses four more:

    fields = (PATH, *files.FIELDS)                                       # declares owner, group and mode
    observe   now = files.look(path)                                     # None when nothing exists
    desired   dict(type="file", **files.desired_attributes(self.host, self.args, now))
    apply     files.replace(path, data, change.after.get("mode"))        # the mode of a new file
              files.set_attributes(path, change)                         # what else differs

VALIDATE with validation() and BACKUP with back_up() add Ansible's arguments of these names. Files in the home of an
account, where the account could plant links, are written with lib/user_files.py.
"""

from sloth.payload.lib.atomic import STALE, back_up, put, replace, sync_directories
from sloth.payload.lib.attributes import (
    FIELDS,
    copy_attributes,
    describe,
    desired_attributes,
    look,
    rewritten,
    set_attributes,
)
from sloth.payload.lib.modes import parse_mode
from sloth.payload.lib.names import group_name, user_name
from sloth.payload.lib.safe_path import Parent, is_exposed, make_directories, open_directory, refuse_special, resolve
from sloth.payload.lib.validation import BACKUP, VALIDATE, check_validate, validation

__all__ = (
    "BACKUP",
    "FIELDS",
    "STALE",
    "VALIDATE",
    "Parent",
    "back_up",
    "check_validate",
    "copy_attributes",
    "describe",
    "desired_attributes",
    "group_name",
    "is_exposed",
    "look",
    "make_directories",
    "open_directory",
    "parse_mode",
    "put",
    "refuse_special",
    "replace",
    "resolve",
    "rewritten",
    "set_attributes",
    "sync_directories",
    "user_name",
    "validation",
)  # fmt: skip
