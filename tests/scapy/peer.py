"""An IPsec peer made of scapy: seals and opens as told, one JSON object per line.

Asked {"op": "seal" or "open", "suite", "cipher_key", "auth_key", "spi", "seq",
"udp", "tunnel", "esn", "packet"}, it answers {"packet"} or {"refused"}. Bytes are
hexadecimal; packets are whole IP packets. "tunnel" is null or the two addresses of
the outer header, "esn" null or the high half of the sequence number.
"""

import json
import re
import sys

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP, SecurityAssociation

CIPHERS = {
    "null": "NULL",
    "aes-cbc": "AES-CBC",
    "aes-gcm": "AES-GCM",
    "chacha20-poly1305": "CHACHA20-POLY1305",
}
HMACS = {
    "hmac-sha256": "SHA2-256-128",
    "hmac-sha384": "SHA2-384-192",
    "hmac-sha512": "SHA2-512-256",
    "": None,
}


def association(request):
    cipher, _, hmac = request["suite"].partition("+")
    return SecurityAssociation(
        ESP,
        spi=request["spi"],
        seq_num=request["seq"],
        crypt_algo=CIPHERS[re.sub("-(128|192|256)$", "", cipher)],
        crypt_key=bytes.fromhex(request["cipher_key"]) or None,
        auth_algo=HMACS[hmac],
        auth_key=bytes.fromhex(request["auth_key"]) or None,
        nat_t_header=UDP(sport=4500, dport=4500) if request["udp"] else None,
        tunnel_header=outer(*request["tunnel"]) if request["tunnel"] else None,
        esn_en=request["esn"] is not None,
        esn=request["esn"] or 0,
    )


def outer(source, destination):
    return (IPv6 if ":" in source else IP)(src=source, dst=destination)


def parsed(octets):
    return (IPv6 if octets[0] >> 4 == 6 else IP)(octets)


def answer(request):
    sa, packet = association(request), parsed(bytes.fromhex(request["packet"]))
    if request["op"] == "seal":
        return {"packet": bytes(sa.encrypt(packet)).hex()}
    try:
        return {"packet": bytes(sa.decrypt(packet)).hex()}
    except Exception as reason:
        return {"refused": f"{type(reason).__name__}: {reason}"}


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
