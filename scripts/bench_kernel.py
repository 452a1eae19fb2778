"""What the kernel itself takes for an attachment: the requests that nobody can do without, with no program around them."""
import ctypes, os, socket, struct, time

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
NLMSG_ERROR, RTM_NEWLINK, RTM_SETLINK, RTM_NEWADDR, RTM_NEWROUTE = 2, 16, 19, 20, 24
REQUEST_ACK, CREATE_EXCL = 0x5, 0x600
IFLA_IFNAME, IFLA_MASTER, IFLA_LINKINFO, IFLA_AF_SPEC, IFLA_NET_NS_FD = 3, 10, 18, 26, 28


def attribute(kind, value):
    return struct.pack("=HH", len(value) + 4, kind) + value + b"\0" * (-len(value) % 4)


def message(kind, flags, body):
    return struct.pack("=IHHII", len(body) + 16, kind, REQUEST_ACK | flags, 1, 0) + body


def link(index=0, up=False):
    return struct.pack("=BxHiII", 0, 0, index, up, up)


def name_of(text):
    return attribute(IFLA_IFNAME, text.encode() + b"\0")


def entered(netns):
    if LIBC.setns(netns, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def opened():
    out = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    out.bind((0, 0))
    return out


def carry_out(sock, *messages):
    """One send; every request is acknowledged."""
    sock.send(b"".join(messages))
    left = len(messages)
    while left:
        data = sock.recv(1 << 16)
        while data:
            length, kind = struct.unpack_from("=IH", data)
            if kind == NLMSG_ERROR:
                if code := struct.unpack_from("=i", data, 16)[0]:
                    raise OSError(-code, os.strerror(-code))
                left -= 1
            data = data[(length + 3) & ~3:]


def attach(home, name, bridge, host, address, gateway):
    """Attaches /run/netns/NAME to the bridge with this ifindex: lo up, a veth pair, address, up, default route; milliseconds.

    With arp_notify, as the reference plugin and rkbox set it, so that neighbours hear of the new MAC of a used address.
    """
    started = time.perf_counter()
    netns = os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
    entered(netns)
    inside = opened()
    entered(home)
    carry_out(inside, message(RTM_SETLINK, 0, link(1, True)))
    peer = link() + name_of("eth0") + attribute(IFLA_NET_NS_FD, struct.pack("=i", netns))
    info = attribute(1, b"veth\0") + attribute(2, attribute(1, peer))
    pair = link(0, True) + name_of(host) + attribute(IFLA_MASTER, struct.pack("=I", bridge)) + attribute(IFLA_LINKINFO, info)
    outside = opened()
    carry_out(outside, message(RTM_NEWLINK, CREATE_EXCL, pair))
    entered(netns)
    index = socket.if_nametoindex("eth0")
    entered(home)
    arp_notify = attribute(socket.AF_INET, attribute(1, attribute(22, struct.pack("=I", 1))))
    local, via = attribute(2, socket.inet_aton(address)), attribute(5, socket.inet_aton(gateway))
    carry_out(
        inside,
        message(RTM_SETLINK, 0, link(index) + attribute(IFLA_AF_SPEC, arp_notify)),
        message(RTM_NEWADDR, CREATE_EXCL, struct.pack("=BBBBI", socket.AF_INET, 16, 0, 0, index) + local),
        message(RTM_SETLINK, 0, link(index, True)),
        message(RTM_NEWROUTE, CREATE_EXCL, struct.pack("=8BI", socket.AF_INET, 0, 0, 0, 254, 4, 0, 1, 0) + via),
    )
    inside.close()
    outside.close()
    os.close(netns)
    return (time.perf_counter() - started) * 1000
