"""Network interfaces and their addresses, queried from the kernel through rtnetlink, without a subprocess."""

import socket
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject

_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_GETADDR, _NEWADDR, _DONE, _ERROR = 22, 20, 3, 2
_ADDRESS, _LOCAL = 1, 2  # IFA_ADDRESS, IFA_LOCAL


def interfaces() -> "list[JsonObject]":
    """Return the interfaces, sorted by name: name, up (bool), mac (str), addresses (list such as ["10.0.0.1/24"])."""
    try:
        names = dict(socket.if_nameindex())
        addresses = _addresses()
    except (OSError, AttributeError):
        return []
    found = []
    for index, name in sorted(names.items(), key=lambda item: item[1]):
        state = _read(name, "operstate")
        found.append(
            {
                "name": name,
                "up": state == "up" or (state == "unknown" and bool(addresses.get(index))),
                "mac": _read(name, "address"),
                "addresses": addresses.get(index, []),
            }
        )
    return found


def source_address() -> "str":
    """Return the IPv4 address that the host would use to reach the Internet, "" without a route. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1; connecting a datagram socket only looks up the route
            return str(probe.getsockname()[0])
        except OSError:
            return ""


def _read(name: "str", attribute: "str") -> "str":
    try:
        with open("/sys/class/net/%s/%s" % (name, attribute)) as file:
            return file.read().strip()
    except (OSError, ValueError):
        return ""


def _addresses() -> "dict[int, list[str]]":
    """Return the addresses, with their prefix lengths, of each interface by its index."""
    found: "dict[int, list[str]]" = {}
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
        netlink.settimeout(2)
        netlink.send(struct.pack("=IHHIIB7x", 24, _GETADDR, _DUMP, 1, 0, socket.AF_UNSPEC))
        while True:
            data = netlink.recv(65536)
            while len(data) >= 16:
                length, kind = struct.unpack_from("=IH", data)
                if kind in (_DONE, _ERROR) or length < 16:
                    return found
                if kind == _NEWADDR:
                    _add_address(data[16:length], found)
                data = data[(length + 3) & ~3 :]


def _add_address(message: "bytes", found: "dict[int, list[str]]") -> "None":
    """Add the address of one RTM_NEWADDR message (an ifaddrmsg and its attributes) to `found`."""
    family, prefix, _, _, index = struct.unpack_from("=BBBBI", message)
    if family not in (socket.AF_INET, socket.AF_INET6):
        return
    values = {}
    rest = message[8:]
    while len(rest) >= 4:
        length, kind = struct.unpack_from("=HH", rest)
        if length < 4:
            break
        values[kind] = rest[4:length]
        rest = rest[(length + 3) & ~3 :]
    address = values.get(_LOCAL) or values.get(_ADDRESS)  # on a point-to-point link ADDRESS is the other end
    if address:
        text = "%s/%d" % (socket.inet_ntop(family, address), prefix)
        found.setdefault(index, []).append(text)
