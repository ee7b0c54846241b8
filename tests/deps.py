"""Holds the rules for dependencies: licences, sources, checksums, and a reason for each one. Standard library only.

Run in the workspace's root: python3 tests/deps.py
"""

import json
import re
import subprocess
import sys
import tomllib

ALLOWED = {
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",  # the root certificates of webpki-roots
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
}
EXCEPTIONS = {"LLVM-exception"}

# Chosen by the project's owner; each other dependency says in a comment why it is there.
CHOSEN = {
    "tokio", "axum", "tower-http", "rusqlite", "r2d2", "serde", "serde_yaml", "sha2", "hex", "governor", "nix", "clap",
    "tabled", "tracing-subscriber",
}


def allowed(expression):
    """Whether a licence expression can be met with allowed licences only. `/` is the old way to write OR."""
    words = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))
    position = 0

    def peek():
        return words[position] if position < len(words) else None

    def take():
        nonlocal position
        word = peek()
        if word is None:
            raise ValueError(f"unfinished licence expression: {expression}")
        position += 1
        return word

    def either():
        value = both()
        while peek() == "OR":
            take()
            other = both()
            value = value or other
        return value

    def both():
        value = one()
        while peek() == "AND":
            take()
            other = one()
            value = value and other
        return value

    def one():
        word = take()
        if word == "(":
            value = either()
            if take() != ")":
                raise ValueError(f"unbalanced licence expression: {expression}")
            return value
        value = word in ALLOWED
        if peek() == "WITH":
            take()
            value = take() in EXCEPTIONS and value
        return value

    value = either()
    if peek() is not None:
        raise ValueError(f"unread rest in licence expression: {expression}")
    return value


def licence_faults(metadata):
    """One line for each package with a wrong licence or source."""
    members = set(metadata["workspace_members"])
    for package in metadata["packages"]:
        name = f"{package['name']} {package['version']}"
        licence = package["license"]
        if not licence:
            yield f"{name}: names no licence"
        elif not allowed(licence):
            yield f"{name}: licence {licence} is not allowed"
        source = package["source"]
        if source is None and package["id"] not in members:
            yield f"{name}: a path outside the workspace"
        elif source is not None and not from_registry(source):
            yield f"{name}: source {source} is not the crates.io registry"


def from_registry(source):
    """crates.io, by its git index or its sparse one."""
    return bool(re.fullmatch(r"(registry|sparse)\+https://(github\.com/rust-lang/|index\.)crates\.io(-index|/)", source))


def checksum_faults(lock):
    """One line for each package from a registry without a checksum."""
    for package in lock["package"]:
        if "source" in package and not re.fullmatch(r"[0-9a-f]{64}", package.get("checksum", "")):
            yield f"{package['name']} {package['version']}: no checksum in Cargo.lock"


def reason_faults(manifest):
    """One line for each dependency that says nowhere why it is there. A comment counts for the lines that follow it directly."""
    inside = False
    explained = False
    for line in manifest.splitlines():
        if line.startswith("["):
            inside = line.strip() == "[workspace.dependencies]"
            explained = False
        elif not inside:
            continue
        elif not line.strip():
            explained = False
        elif line.startswith("#"):
            explained = True
        elif match := re.match(r"([A-Za-z0-9_-]+)\s*=", line):
            if match[1] not in CHOSEN and "path =" not in line and not explained:
                yield f"{match[1]}: no comment above it in Cargo.toml says why it is there"


def own_dependency_faults(metadata):
    """One line for each dependency of a member that does not come from [workspace.dependencies]."""
    with open("Cargo.toml", "rb") as file:
        shared = set(tomllib.load(file)["workspace"]["dependencies"])
    members = set(metadata["workspace_members"])
    for package in metadata["packages"]:
        if package["id"] not in members:
            continue
        for dependency in package["dependencies"]:
            name = dependency["rename"] or dependency["name"]
            if name not in shared:
                yield f"{package['name']}: {name} is not in [workspace.dependencies]"


def main():
    """Prints each fault; fails when there is one."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1"]
    metadata = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    with open("Cargo.lock", "rb") as file:
        lock = tomllib.load(file)
    with open("Cargo.toml", encoding="utf-8") as file:
        manifest = file.read()
    faults = [
        *licence_faults(metadata),
        *checksum_faults(lock),
        *reason_faults(manifest),
        *own_dependency_faults(metadata),
    ]
    for fault in faults:
        print(f"dependency: {fault}", file=sys.stderr)
    print(f"{len(metadata['packages'])} packages checked, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
