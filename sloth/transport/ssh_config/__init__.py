"""What ssh_config files mean for a host, exactly as for the ssh program: read once, evaluated for each host.

asyncssh has a parser of its own, which differs in too many places: it would connect to the wrong host.
"""

from sloth.transport.ssh_config.errors import ConfigError
from sloth.transport.ssh_config.files import Configuration
from sloth.transport.ssh_config.route import find_route
from sloth.transport.ssh_config.target import Target

__all__ = ["ConfigError", "Configuration", "Target", "find_route"]
