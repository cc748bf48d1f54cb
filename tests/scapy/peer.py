"""An IPsec peer made of scapy: seals and opens as told, one JSON object per line.

Asked {"op": "seal" or "open", "cipher", "cipher_key", "auth_key", "spi", "seq",
"udp", "tunnel", "packet"}, it answers {"packet"} or {"refused"}. Bytes are
hexadecimal; packets are whole IPv4 packets.
"""

import json
import sys

from scapy.layers.inet import IP, UDP
from scapy.layers.ipsec import ESP, SecurityAssociation

CIPHERS = {"null": "NULL", "aes-cbc-128": "AES-CBC", "aes-cbc-256": "AES-CBC"}


def association(request):
    return SecurityAssociation(
        ESP,
        spi=request["spi"],
        seq_num=request["seq"],
        crypt_algo=CIPHERS[request["cipher"]],
        crypt_key=bytes.fromhex(request["cipher_key"]) or None,
        auth_algo="SHA2-256-128",
        auth_key=bytes.fromhex(request["auth_key"]),
        nat_t_header=UDP(sport=4500, dport=4500) if request["udp"] else None,
        tunnel_header=IP(src="192.0.2.20", dst="192.0.2.10") if request["tunnel"] else None,
    )


def answer(request):
    sa, packet = association(request), IP(bytes.fromhex(request["packet"]))
    if request["op"] == "seal":
        return {"packet": bytes(sa.encrypt(packet)).hex()}
    try:
        return {"packet": bytes(sa.decrypt(packet)).hex()}
    except Exception as reason:
        return {"refused": f"{type(reason).__name__}: {reason}"}


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
