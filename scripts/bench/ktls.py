#!/usr/bin/env python3
"""The table of ktls.sh, from the log of its virtual machine: thousands of instructions of each server for a response,
and of tidegate's how they are shared among the cipher, copies and the rest. OpenSSL has no symbols in Debian, by which
nginx's could be told."""

import collections
import json
import re
import sys

# The head of a response counts below this.
HEADS_COUNT_BYTES = 4096
FILES = {1024: "1 KiB", 65536: "64 KiB", 1048576: "1 MiB", 104857600: "100 MiB"}
SERVERS = {"kernel": "kTLS", "user": "user space"}
# The last are labels in the kernel's AES-GCM.
CIPHER = re.compile(r"aes|gcm|ghash|gf128|crypto_|walk_|aead|kernel_fpu|^_\w+\d{4,}$", re.IGNORECASE)
# Clients connect while they are sampled: no part of a response.
HANDSHAKE = re.compile(r"sha256|sha512|25519|ecp_nistz|p256|ecdsa|hkdf|hmac|_mont|bn_|asn1|rustls|evp_", re.IGNORECASE)
COPY = re.compile(r"copy|memcpy|memmove|rep_movs|clear_page", re.IGNORECASE)
PARTS = ("cipher", "copies", "kernel", "user")


def part(dso, symbol):
    if HANDSHAKE.search(symbol) and not CIPHER.search(symbol):
        return "handshake"
    if CIPHER.search(symbol):
        return "cipher"
    if COPY.search(symbol):
        return "copies"
    return "kernel" if dso.startswith("[") else "user"


def thousands(instructions):
    return f"{instructions / 1000:,.{1 if instructions < 100_000 else 0}f}"


def responses(answer, size):
    """How many a client of tidegate-load got. Large ones need not begin and end in time; their heads are little."""
    return answer["bytes"] / size if size > HEADS_COUNT_BYTES else answer["requests"]


def read(log):
    """By server and bytes: instructions of a response, connections that the kernel encrypted, and samples by part."""
    counted, samples = {}, collections.defaultdict(collections.Counter)
    for line in log:
        if line.startswith("counted: "):
            server, size, encrypted, answer = line.split(maxsplit=4)[1:]
            answer = json.loads(answer)
            counted[server, int(size)] = answer["cpu_ns"] / responses(answer, int(size)), int(encrypted)
        elif line.startswith("sampled: ") and len(words := line.split()) > 6:
            samples[words[1], int(words[2])][part(words[4], " ".join(words[6:]))] += int(words[3])
    return counted, samples


def main():
    with open(sys.argv[1], encoding="utf-8", errors="replace") as log:
        counted, samples = read(log)
    if not counted:
        sys.exit("ktls.py: the virtual machine counted nothing")
    print("| file | server | instructions, thousands | relative | " + " | ".join(PARTS) + " |")
    print("|---|---|" + "---:|" * (2 + len(PARTS)))
    first = {}
    for (server, size), (instructions, encrypted) in sorted(counted.items(), key=lambda row: row[0][1]):
        program, where = server.split("-")
        if (encrypted > 0) != (where == "kernel"):
            sys.exit(f"ktls.py: the kernel has encrypted on {encrypted} connections of {server}")
        relative = instructions / first.setdefault(size, instructions)
        sampled = samples[server, size] if program == "tidegate" else {}
        total = sum(sampled.get(name, 0) for name in PARTS)
        shares = [thousands(sampled[name] / total * instructions) if total else "-" for name in PARTS]
        cells = (FILES[size], f"{program}, {SERVERS[where]}", thousands(instructions), f"{relative:.2f}", *shares)
        print(f"| {' | '.join(cells)} |")


main()
