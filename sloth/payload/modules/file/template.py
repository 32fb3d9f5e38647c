"""file.template: writes a Jinja2 template, rendered on the controller, to a file on the host."""

from sloth.payload.kernel.resource import REQUIRED, Field
from sloth.payload.lib import files
from sloth.payload.modules.file.copy import DEST, FOLLOW, FORCE, Copy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Sequence

    from sloth.payload.kernel.record import Asset
    from sloth.payload.kernel.resource import Args
    from sloth.payload.kernel.values import Arguments
    from sloth.payload.lib.host import Host


class Template(Copy):
    """Render a Jinja2 template on the controller and write the text to the host.

    The template can use the host's variables by name, and `vars`, `host`, `groups` and `facts`. An undefined variable
    is an error, with the file and line in the template.

    A first line such as `#jinja2: trim_blocks: False, lstrip_blocks: True` sets what the arguments of these names do.

    Besides Jinja2's filters and tests there are those of Ansible that work on text, paths, numbers, lists and tables
    (such as to_json, to_nice_yaml, combine, dict2items, regex_replace, ternary, comment; `is match`, `is version`).

    Other than Ansible: there are no filters that are random or use other software (password_hash, ipaddr, json_query),
    and no lookups, nor `omit`; `random` takes no seed. (`ansible_managed` is "Ansible managed" if it is not set.)

    Other than Ansible: the newlines at the end of the template are always kept (ansible-core 2.19 loses them when the
    text is a number or a list).
    """

    name = "file.template"
    subject = "dest"
    render_options = (
        "trim_blocks", "lstrip_blocks", "newline_sequence", "block_start_string", "block_end_string",
        "variable_start_string", "variable_end_string", "comment_start_string", "comment_end_string",
    )  # fmt: skip
    ships = "template"
    fields = (
        Field(
            "src",
            "file",
            REQUIRED,
            how=True,
            help="the template: an absolute path, or one below the site's directory or its templates/",
        ),
        DEST,
        Field("vars", "dict", how=True, help="additional variables for this template"),
        *files.FIELDS,
        FORCE,
        FOLLOW,
        files.BACKUP,
        files.VALIDATE,
        Field("trim_blocks", "bool", True, how=True, help="remove the newline after a block"),
        Field("lstrip_blocks", "bool", False, how=True, help="remove blanks before a block"),
        Field("output_encoding", "str", "utf-8", how=True, help="the encoding in which the text is written"),
        Field("newline_sequence", "str", "\n", ("\n", "\r\n", "\r"), how=True, help="the end of a line"),
        Field("block_start_string", "str", "{%", how=True, help="begins a block"),
        Field("block_end_string", "str", "%}", how=True, help="ends a block"),
        Field("variable_start_string", "str", "{{", how=True, help="begins an expression"),
        Field("variable_end_string", "str", "}}", how=True, help="ends an expression"),
        Field("comment_start_string", "str", "{#", how=True, help="begins a comment"),
        Field("comment_end_string", "str", "#}", how=True, help="ends a comment"),
    )
    example = """task({name = "config", run = function()
    file.template({src = "app.conf.j2", dest = "/etc/app.conf", mode = "0640"})
end})"""

    @classmethod
    def check_together(cls, values: "Arguments") -> "None":
        super(Template, cls).check_together(dict(values, content=None))

    def __init__(self, args: "Args", host: "Host", assets: "Sequence[Asset]" = ()) -> "None":
        args.__dict__.update(content=None, remote_src=False, checksum=None, directory_mode=None)
        Copy.__init__(self, args, host, assets)
