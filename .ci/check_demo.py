"""Checks that the demo's JSON has its stable form and that its figures make sense (not that they are fast)."""

import json
import sys

report = json.load(open(sys.argv[1]))
assert set(report) == {"spaces", "checks", "rtt", "ratio_personal_bare"}, sorted(report)

assert [space["name"] for space in report["spaces"]] == ["red", "blue"]
for space in report["spaces"]:
    assert space["address"] == "192.0.2.10", space
    assert 0 < space["boot_ms"] < 10_000, space
    assert 0 < space["vm_kib"] < 1 << 20 and 0 < space["guest_kib"] < 1 << 20, space

assert report["checks"], "no checks were made"
for check in report["checks"]:
    assert set(check) == {"name", "ok", "detail"}, check
    assert check["ok"] is True, check

algorithms = set(report["ratio_personal_bare"])
assert algorithms, "no algorithm was measured"
for kind in ("base", "bare", "personal"):
    assert set(report["rtt"][kind]) == algorithms, report["rtt"][kind]
    for times in report["rtt"][kind].values():
        assert 1 < times["p50_us"] <= times["p90_us"] <= times["p99_us"] < 1_000_000, times
for ratio in report["ratio_personal_bare"].values():
    assert 0 < ratio["min"] <= ratio["median"] <= ratio["max"] < 100, ratio

for algorithm in sorted(algorithms):
    times = " ".join(f"{kind} {report['rtt'][kind][algorithm]['p50_us']}" for kind in ("base", "bare", "personal"))
    print(f"{algorithm}: p50 µs {times}, personal/bare {report['ratio_personal_bare'][algorithm]['median']}")
print(f"{len(report['checks'])} checks of the demo are ok")
