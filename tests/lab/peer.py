"""A peer for the tests of published ports: serves, asks, forges. Run in a network namespace; no dependencies."""
import os
import socket
import struct
import sys
import threading
import time


def listen(family, kind, port, address=""):
    s = socket.socket(family, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind((address, port))
    return s


def serve_tcp(s, greeting):
    s.listen(1024)
    while True:
        client, peer = s.accept()
        note(peer)
        client.sendall((greeting + peer[0]).encode())
        client.close()


def serve_udp(s, greeting):
    while True:
        _, peer = s.recvfrom(2048)
        note(peer)
        s.sendto((greeting + peer[0]).encode(), peer)


LOG = None


def note(peer):
    if LOG:
        with open(LOG, "a") as log:
            log.write(f"{peer[0]}\n")


def serve(ready, greeting, log, ports):
    """Answers every client with the address that it is seen with. PORT or ADDRESS@PORT."""
    global LOG
    LOG = log if log != "-" else None
    for word in ports:
        address, _, port = word.rpartition("@")
        families = [socket.AF_INET6 if ":" in address else socket.AF_INET] if address else [socket.AF_INET, socket.AF_INET6]
        for family in families:
            for kind, run in ((socket.SOCK_STREAM, serve_tcp), (socket.SOCK_DGRAM, serve_udp)):
                s = listen(family, kind, int(port), address)
                threading.Thread(target=run, args=(s, greeting), daemon=True).start()
    open(ready, "w").close()
    while os.getppid() != 1:
        time.sleep(0.2)


def ask_one(question):
    """One line: PROTOCOL ADDRESS PORT [SOURCE_PORT]; the answer, or what went wrong."""
    protocol, address, port, *source = question.split()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    s = socket.socket(family, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
    s.settimeout(0.8)
    try:
        if source:
            s.bind(("", int(source[0])))
        s.connect((address, int(port)))
        if protocol == "udp":
            s.send(b"x")
        return s.recv(200).decode()
    except ConnectionRefusedError:
        return "refused"
    except (TimeoutError, socket.timeout):
        return "silence"
    except OSError as error:
        return error.strerror
    finally:
        s.close()


def ask(questions):
    """All at once: silence takes its time."""
    answers = [None] * len(questions)

    def run(at):
        answers[at] = ask_one(questions[at])
    threads = [threading.Thread(target=run, args=(at,)) for at in range(len(questions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("\n".join(answers))


def mac(text):
    return bytes.fromhex(text.replace(":", ""))


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def udp4(source, destination, sport, dport):
    s, d = socket.inet_aton(source), socket.inet_aton(destination)
    udp = struct.pack("!HHHH", sport, dport, 9, 0) + b"x"
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, s, d)
    return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, checksum(head), s, d) + udp


def arp(op, sender_mac, sender, target_mac, target):
    return struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, op, mac(sender_mac), socket.inet_aton(sender), mac(target_mac), socket.inet_aton(target))


def icmp6(source, destination, body):
    s, d = socket.inet_pton(socket.AF_INET6, source), socket.inet_pton(socket.AF_INET6, destination)
    pseudo = s + d + struct.pack("!II", len(body), 58)
    body = body[:2] + struct.pack("!H", checksum(pseudo + body)) + body[4:]
    return struct.pack("!IHBB", 0x60000000, len(body), 58, 255) + s + d + body


def frame(link, destination, source, kind, payload):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    s.bind((link, 0))
    s.send(mac(destination) + mac(source) + struct.pack("!H", kind) + payload)


def forge(what, link, *words):
    if what == "udp":
        to, own, source, destination, port = words
        frame(link, to, own, 0x0800, udp4(source, destination, 40000, int(port)))
    elif what == "dhcp":
        to, own, source, destination = words
        frame(link, to, own, 0x0800, udp4(source, destination, 67, 68))
    elif what == "vlan":
        to, own, source, destination, port = words
        frame(link, to, own, 0x8100, struct.pack("!HH", 0, 0x0800) + udp4(source, destination, 40000, int(port)))
    elif what == "arp":
        to, own, sender_mac, sender, target_mac, target = words
        frame(link, to, own, 0x0806, arp(2, sender_mac, sender, target_mac, target))
    elif what == "ra":
        own, source, prefix = words
        option = struct.pack("!BBBBIII16s", 3, 4, 64, 0xC0, 86400, 86400, 0, socket.inet_pton(socket.AF_INET6, prefix))
        body = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + option + struct.pack("!BB6s", 1, 1, mac(own))
        frame(link, "33:33:00:00:00:01", own, 0x86DD, icmp6(source, "ff02::1", body))
    elif what == "na":
        to, own, source, destination, target = words
        body = struct.pack("!BBHI16s", 136, 0, 0, 0x20000000, socket.inet_pton(socket.AF_INET6, target)) + struct.pack("!BB6s", 2, 1, mac(own))
        frame(link, to, own, 0x86DD, icmp6(source, destination, body))
    elif what == "sctp":
        destination, port = words
        s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 132)
        chunk = struct.pack("!BBHIIHHI", 1, 0, 20, 7, 65536, 1, 1, 1)
        head = struct.pack("!HHII", 40001, int(port), 0, 0)
        s.sendto(sctp(head, chunk), (destination, 0))


def sctp(head, chunk):
    """The packet with its CRC32c."""
    packet = head[:8] + b"\0\0\0\0" + chunk
    crc = 0xFFFFFFFF
    for byte in packet:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return head[:8] + struct.pack("<I", crc ^ 0xFFFFFFFF) + chunk


def sniff(ready, link, seconds, log):
    """Notes every frame that comes in by a link."""
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
    s.bind((link, 3))
    s.settimeout(0.05)
    open(ready, "w").close()
    until = time.time() + float(seconds)
    with open(log, "w") as out:
        while time.time() < until:
            try:
                data, where = s.recvfrom(2048)
            except (TimeoutError, socket.timeout):
                continue
            if where[2] != socket.PACKET_OUTGOING:
                out.write(f"{data.hex()}\n")
                out.flush()


def hold(ready, protocol, address, port):
    """Holds a port until its parent ends."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    s = listen(family, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM, int(port), address)
    if protocol == "tcp":
        s.listen(1)
    open(ready, "w").close()
    while os.getppid() != 1:
        time.sleep(0.2)


def main():
    verb, *words = sys.argv[1:]
    if verb == "serve":
        serve(words[0], words[1] if words[1] != "-" else "", words[2], words[3:])
    elif verb == "ask":
        ask([line for line in sys.stdin.read().splitlines() if line])
    elif verb == "forge":
        forge(*words)
    elif verb == "sniff":
        sniff(*words)
    elif verb == "hold":
        hold(*words)


main()
