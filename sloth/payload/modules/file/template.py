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

    Other than Ansible: of Ansible's filters there are to_json, to_nice_json, from_json, b64encode, b64decode, quote,
    basename, dirname, regex_replace, regex_search, bool and mandatory; there is no variable `ansible_managed`.

    Other than Ansible: there is no `output_encoding`: the text is written as UTF-8.
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
