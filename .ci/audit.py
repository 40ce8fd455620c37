"""Reports known vulnerabilities of the versions in constraints.txt, by pip-audit, or that no database is reachable."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

PINS = Path(__file__).parents[1] / "constraints.txt"


def audit(pins: list[str], seconds: float) -> list[dict]:
    """The database's entry for each version; empty if it cannot be reached or knows none of them."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(pins) + "\n")
        file.flush()
        command = [sys.executable, "-m", "pip_audit", "--requirement", file.name, "--no-deps", "--disable-pip",
                   "--format", "json", "--progress-spinner", "off", "--timeout", "4"]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
            entries = json.loads(done.stdout)["dependencies"]
        except (subprocess.TimeoutExpired, ValueError, KeyError):
            return []
    return [entry for entry in entries if "skip_reason" not in entry]


def main() -> None:
    pins = [line for line in PINS.read_text().splitlines() if "==" in line]
    # One of them first, so that a machine without network waits only a few seconds.
    if not audit(pins[-1:], 30) or not (known := audit(pins, 600)):
        print(f"SKIPPED: no advisory database can be reached from here; the {len(pins)} versions were not audited")
        return
    vulnerabilities = [(found, entry) for found in known for entry in found["vulns"]]
    for found, entry in vulnerabilities:
        print(
            f"{found['name']}=={found['version']}: {entry['id']}, fixed in {', '.join(entry['fix_versions']) or 'none'}"
        )
    print(f"{len(known)} of {len(pins)} versions audited, {len(vulnerabilities)} known vulnerabilities")
    sys.exit(bool(vulnerabilities))


if __name__ == "__main__":
    main()
