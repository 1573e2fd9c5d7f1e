"""What the installed packages are known to suffer from, and under which licences they come.

Fails for a known vulnerability and for a licence that is not listed here. Where the service of
known vulnerabilities cannot be reached it says so, loudly, and does not fail.
"""

import json
import re
import subprocess
import sys

# Vulnerabilities that do not touch this project, by id, with the reason.
ACCEPTED: dict[str, str] = {}
# Permissive; or of files and libraries that are used as they are (MPL, LGPL).
PERMISSIVE = r"""
    0BSD | 2-Clause\ BSD | 3-Clause\ BSD | BSD([-\ ][23]-Clause)?
    | Apache([-\ ](Software|License|2(\.0)?))*
    | BSL-1\.0 | CC0-1\.0 | CNRI-Python | DFSG\ approved | ISC | LLVM-exception | MIT(-0|-CMU)?
    | MPL-2\.0 | Mozilla\ Public\ License\ 2\.0 | LGPL-2\.1-or-later | PSF-2\.0
    | Python\ Software\ Foundation | Zlib
"""
LISTED = re.compile(rf"({PERMISSIVE})(\ License)?(\ \(\w+([\ ][\d.]+)?\))?", re.VERBOSE)
# Their packages do not name it; their repositories do.
LOOKED_UP = {"axe-playwright-python": "MIT", "torchao": "BSD-3-Clause"}
# Some have the whole text in place of the name.
MIT_TEXT = "Permission is hereby granted, free of charge, to any person obtaining a copy"


def output(*command: str) -> subprocess.CompletedProcess:
    """What a module prints, run as a program."""
    return subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, timeout=600, check=False
    )


def vulnerabilities() -> list[str]:
    """A line for each that is known and not accepted."""
    last = "it did not answer in time"
    try:
        done = output("pip_audit", "--local", "--format", "json", "--timeout", "20")
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, subprocess.TimeoutExpired):
        print(f"WARNING: NOT CHECKED FOR VULNERABILITIES, the service cannot be reached: {last}")
        return []
    skipped = [one["name"] for one in found if "skip_reason" in one]
    if skipped:
        print(f"WARNING: {len(skipped)} of {len(found)} packages NOT CHECKED FOR VULNERABILITIES:")
        print(f"  the service knows nothing of them: {', '.join(skipped)}")
    print(f"{len(found) - len(skipped)} of {len(found)} packages checked for vulnerabilities.")
    return [
        f"{one['name']} {one['version']}: {bad['id']}, mended in {bad['fix_versions'] or 'none'}"
        for one in found
        for bad in one.get("vulns", ())
        if bad["id"] not in ACCEPTED
    ]


def unlisted_licences() -> list[str]:
    """A line for each package under a licence that is not listed."""
    done = output("piplicenses", "--format", "json", "--from", "mixed")
    packages = json.loads(done.stdout)
    print(f"{len(packages)} packages checked for their licence.")
    wrong = []
    for package in packages:
        name, licence = package["Name"], package["License"]
        licence = LOOKED_UP.get(name, licence) if licence == "UNKNOWN" else licence
        licence = "MIT" if MIT_TEXT in " ".join(licence.split()) else licence
        parts = re.split(r";|\bAND\b|\bOR\b|\bWITH\b", licence)
        if not all(LISTED.fullmatch(part.strip()) for part in parts):
            wrong.append(f"{name} {package['Version']}: {licence[:100]} is no licence listed here")
    return wrong


wrong = vulnerabilities() + unlisted_licences()
print(*wrong, sep="\n")
sys.exit(bool(wrong))
