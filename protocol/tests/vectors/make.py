#!/usr/bin/env python3
"""Writes content.toml: golden vectors of digests, keys, transactions, blocks, genesis and catching up.

An implementation of docs/PROTOCOL.md, sections 2 to 9, that shares no line and no library with the Rust one, so that the two
check each other. Needs nothing but Python's standard library:

    python3 protocol/tests/vectors/make.py > protocol/tests/vectors/content.toml

The output never changes unless the protocol does. If a test says that it should, that is a decision about compatibility,
not a file to refresh.
"""

import hashlib

# --- Section 2: digests ---------------------------------------------------------------------------------------------


def digest(domain: str, message: bytes) -> bytes:
    tag = hashlib.sha256(f"starling/{domain}/1".encode()).digest()
    return hashlib.sha256(tag + tag + message).digest()


# --- Section 3: ed25519 (RFC 8032, section 5.1), slow and not constant-time -------------------------------------------

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P


def point_add(p, q):
    (x1, y1), (x2, y2) = p, q
    product = D * x1 * x2 * y1 * y2
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, P)
    y = (y1 * y2 + x1 * x2) * pow(1 - product, -1, P)
    return x % P, y % P


def point_multiply(scalar, p):
    result = (0, 1)
    while scalar:
        if scalar & 1:
            result = point_add(result, p)
        p = point_add(p, p)
        scalar >>= 1
    return result


def base_point():
    y = 4 * pow(5, -1, P) % P
    x_squared = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(x_squared, (P + 3) // 8, P)
    if x * x % P != x_squared:
        x = x * pow(2, (P - 1) // 4, P) % P
    return (x if x % 2 == 0 else P - x), y


B = base_point()


def compress(p) -> bytes:
    return (p[1] | (p[0] & 1) << 255).to_bytes(32, "little")


def number(data: bytes) -> int:
    return int.from_bytes(data, "little")


def expand(seed: bytes):
    hashed = hashlib.sha512(seed).digest()
    scalar = number(hashed[:32]) & ((1 << 254) - 8) | 1 << 254
    return scalar, hashed[32:]


def public_key(seed: bytes) -> bytes:
    return compress(point_multiply(expand(seed)[0], B))


def sign(seed: bytes, message: bytes) -> bytes:
    scalar, prefix = expand(seed)
    nonce = number(hashlib.sha512(prefix + message).digest()) % L
    r = compress(point_multiply(nonce, B))
    k = number(hashlib.sha512(r + public_key(seed) + message).digest()) % L
    return r + ((nonce + k * scalar) % L).to_bytes(32, "little")


# --- Section 4: Merkle root -----------------------------------------------------------------------------------------


def tree(leaves) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return digest("merkle-node", tree(leaves[:k]) + tree(leaves[k:]))


def merkle_root(leaves) -> bytes:
    return digest("merkle-root", u64(len(leaves)) + (tree(leaves) if leaves else b""))


# --- Section 1: notation --------------------------------------------------------------------------------------------


def u8(value):
    return value.to_bytes(1, "little")


def u32(value):
    return value.to_bytes(4, "little")


def u64(value):
    return value.to_bytes(8, "little")


def string(data: bytes):
    return u64(len(data)) + data


# --- Section 5: transactions ----------------------------------------------------------------------------------------


def leading_zero_bits(data: bytes) -> int:
    return 256 - int.from_bytes(data, "big").bit_length()


def transaction(network, seed, nonce, expiry_slot, payload, stamp_bits):
    unstamped = network + public_key(seed) + u64(nonce) + u64(expiry_slot) + string(payload)
    content = digest("transaction-content", unstamped)
    stamp = 0
    while leading_zero_bits(digest("transaction-stamp", content + u64(stamp))) < stamp_bits:
        stamp += 1
    identifier = digest("transaction-id", content + u64(stamp))
    signature = sign(seed, digest("transaction-signing", identifier))
    return {
        "seed": seed,
        "nonce": nonce,
        "expiry_slot": expiry_slot,
        "payload": payload,
        "stamp": stamp,
        "encoded": unstamped + u64(stamp) + signature,
        "content": content,
        "id": identifier,
        "leaf": digest("merkle-leaf", identifier + signature),
    }


# --- Section 6: blocks ----------------------------------------------------------------------------------------------


def block(network, seed, slot, height, parent, transactions):
    root = merkle_root([t["leaf"] for t in transactions])
    count = len(transactions)
    header = network + u64(slot) + u64(height) + parent + root + u32(count) + public_key(seed)
    identifier = digest("block-id", header)
    signature = sign(seed, digest("block-signing", identifier))
    return {
        "seed": seed,
        "slot": slot,
        "height": height,
        "parent": parent,
        "transaction_root": root,
        "transaction_count": count,
        "encoded": header + signature + u64(count) + b"".join(t["encoded"] for t in transactions),
        "id": identifier,
    }


# --- Section 7: genesis ---------------------------------------------------------------------------------------------


def genesis(name, start_time_ms, slot_ms, producers, limits, stamp_bits):
    payload_bytes_max, transactions_per_block_max, block_bytes_max, expiry_slots_max, nonce_window = limits
    encoded = string(name.encode()) + u64(start_time_ms) + u64(slot_ms)
    encoded += u64(len(producers)) + b"".join(producers)
    encoded += u32(payload_bytes_max) + u32(transactions_per_block_max) + u32(block_bytes_max)
    encoded += u64(expiry_slots_max) + u64(nonce_window) + u8(stamp_bits)
    network = digest("network", encoded)
    short = network.hex()[:8]
    return {
        "encoded": encoded,
        "network_id": network,
        "block_id": digest("genesis-block", network),
        "transaction_topic": f"{short}/t",
        "block_topic": f"{short}/b",
        "kademlia_protocol": f"/starling/{short}/kad/1",
    }


# --- Section 8: message ids -----------------------------------------------------------------------------------------


def message_id(topic: str, data: bytes) -> bytes:
    return digest("message-id", u32(len(topic)) + topic.encode() + data)[:20]


# --- Section 9: request and response --------------------------------------------------------------------------------


def u16(value):
    return value.to_bytes(2, "little")


def ids(values):
    return u64(len(values)) + b"".join(values)


def status(network, height, head, slot, earliest):
    return network + u64(height) + head + u64(slot) + u64(earliest)


def requests(own, locator, headers_max, wanted):
    return {
        "status": u32(0) + own,
        "headers": u32(1) + ids(locator) + u16(headers_max),
        "blocks": u32(2) + ids(wanted),
    }


def responses(own, headers, blocks):
    return {
        "status": own + u32(0),
        "headers": own + u32(1) + u64(len(headers)) + b"".join(headers),
        "blocks": own + u32(2) + u64(len(blocks)) + b"".join(string(one) for one in blocks),
        "busy": own + u32(3),
    }


# --- Output ---------------------------------------------------------------------------------------------------------


def table(heading, fields):
    print(f"\n{heading}")
    for key, value in fields.items():
        if isinstance(value, bytes):
            value = value.hex()
        # TOML's integers are signed and have 64 bits; what does not fit is written as text.
        plain = isinstance(value, int) and value < 2**63
        print(f"{key} = {value}" if plain else f'{key} = "{value}"')


def main():
    print("# Golden vectors, written by make.py beside this file. Byte strings are in hex.")
    domains = "network genesis-block transaction-content transaction-stamp transaction-id transaction-signing"
    domains += " block-id block-signing merkle-leaf merkle-node merkle-root message-id export-record"
    for domain in domains.split():
        table("[[digest]]", {"domain": f"starling/{domain}/1", "of_abc": digest(domain, b"abc")})

    producers = [bytes([1]) * 32, bytes([2]) * 32]
    for seed in producers:
        table("[[key]]", {"seed": seed, "public_key": public_key(seed)})
    for count in range(9):
        leaves = [digest("merkle-leaf", bytes([place])) for place in range(count)]
        table("[[merkle]]", {"leaves": count, "root": merkle_root(leaves)})

    limits = (16384, 2048, 1048576, 256, 64)
    made = genesis("vectors", 1800000000123, 2000, [public_key(seed) for seed in producers], limits, 8)
    table("[genesis]", made)
    network = made["network_id"]
    sender = bytes([9]) * 32
    transactions = [
        transaction(network, sender, 0, 10, b"", 8),
        transaction(network, sender, 1, 2**64 - 1, b"payload", 8),
        transaction(network, producers[0], 2**64 - 1, 0, bytes(range(256)), 8),
    ]
    for one in transactions:
        table("[[transaction]]", one)
    topic = made["transaction_topic"]
    for data in (b"", b"data"):
        table("[[message]]", {"topic": topic, "data": data, "id": message_id(topic, data)})
    first = block(network, producers[1], 1, 1, made["block_id"], [])
    table("[[block]]", first)
    second = block(network, producers[0], 8, 2, first["id"], transactions)
    table("[[block]]", second)

    # The one who asks has the first block and keeps all, the one who answers has pruned the first.
    asking = status(network, 1, first["id"], 1, 1)
    answering = status(network, 2, second["id"], 8, 2)
    nowhere = bytes([7]) * 32
    wanted = [second["id"], nowhere]
    named = requests(asking, [first["id"], made["block_id"]], 512, wanted)
    for kind, encoded in named.items():
        table("[[request]]", {"kind": kind, "encoded": encoded})
    signed_headers = [one["encoded"][:212] for one in (first, second)]
    # The second place is that of a block which the responder has not got.
    named = responses(answering, signed_headers, [second["encoded"], b""])
    for kind, encoded in named.items():
        table("[[response]]", {"kind": kind, "encoded": encoded})


main()
