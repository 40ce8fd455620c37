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
            told = json.loads(done.stdout)["dependencies"]
        except (subprocess.TimeoutExpired, ValueError, KeyError):
            return []
    return [found for found in told if "skip_reason" not in found]


def main() -> None:
    pins = [line for line in PINS.read_text().splitlines() if "==" in line]
    # One of them first, so that a machine without network waits for seconds only.
    if not audit(pins[-1:], 30) or not (known := audit(pins, 600)):
        print(f"SKIPPED: no advisory database can be reached from here; the {len(pins)} pins were not audited")
        return
    holes = [(found, hole) for found in known for hole in found["vulns"]]
    for found, hole in holes:
        print(
            f"{found['name']}=={found['version']}: {hole['id']}, mended in {', '.join(hole['fix_versions']) or 'none'}"
        )
    print(f"{len(known)} of {len(pins)} pins audited, {len(holes)} known holes")
    sys.exit(bool(holes))


if __name__ == "__main__":
    main()
