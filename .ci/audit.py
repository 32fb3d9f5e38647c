#!/usr/bin/env python3
"""Fail if a dependency has a known vulnerability; needs pip-audit (the extra "dev") and its advisory service.

Prints which packages could not be audited, because the service cannot be reached or does not know them: that fails
only with SLOTH_AUDIT=required.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

command = [sys.executable, "-m", "pip_audit", "--progress-spinner=off", "--format=json", "."]
done = subprocess.run(command, capture_output=True, text=True, timeout=600)
try:
    packages = json.loads(done.stdout)["dependencies"]
except ValueError:
    print("not audited:", done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no answer", file=sys.stderr)
    sys.exit(os.environ.get("SLOTH_AUDIT") == "required")

vulnerable = False
for package in packages:
    for known in package.get("vulns", ()):
        vulnerable = True
        fixed = ", ".join(known["fix_versions"]) or "no version yet"
        print(f"{package['name']} {package['version']}: {known['id']}, fixed in {fixed}", file=sys.stderr)
skipped = [package["name"] for package in packages if "skip_reason" in package]
if skipped:
    print("not audited:", ", ".join(skipped), file=sys.stderr)
print(f"{len(packages) - len(skipped)} of {len(packages)} dependencies audited")
sys.exit(vulnerable or (bool(skipped) and os.environ.get("SLOTH_AUDIT") == "required"))
