"""Carry records between machines: one archive, verified file by file on arrival."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path, PurePosixPath

from empirical.engine.records import PREDICTIONS, RecordError, files, read, write_json
from empirical.engine.sealed import FOLDER as SEALED
from theory.numerics import require
from theory.provenance import write_text

MANIFEST = "manifest.json"
#: records are small; a member larger than this is not one
LARGEST = 16 * 2**20


def pack(results: Path, profile: str, archive: Path) -> int:
    """Write every record of `profile` under `results` and a manifest of their SHA-256 into a .tar.gz.

    What was declared and sealed beside them goes along. Returns the number of records.

    Raises:
        RecordError: a record is damaged, or the archive cannot be written; nothing is left behind then.
        ValueError: there is none.
    """
    there = [path for folder in sorted(results.glob(f"*/{profile}")) for path in files(folder)]
    require(bool(there), "pack", f"records of profile {profile} in {results}", "none")
    for path in there:
        read(path)
    beside = [*results.glob(f"*/{profile}/{PREDICTIONS}"), *results.glob(f"*/{profile}/{SEALED}/*.json")]
    manifest = {
        path.relative_to(results).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted([*there, *beside])
    }
    partial = archive.with_name(f".{archive.name}.partial")
    try:
        archive.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(partial, "w:gz") as tar:
            text = json.dumps(manifest, indent=1, sort_keys=True).encode()
            member = tarfile.TarInfo(MANIFEST)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
            for name in manifest:
                tar.add(results / name, arcname=name)
        partial.replace(archive)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise RecordError(f"{archive}: expected to write it, got: {error.strerror}") from error
    return len(there)


def unpack(archive: Path, results: Path) -> tuple[int, int]:
    """Verify an archive as a whole, then put its records in place. Returns (new records, already there).

    Raises:
        RecordError: not such an archive, a member outside the manifest or with another hash, a name that leaves the
            folder, a damaged record, or a record that differs from the one that is there. Nothing is written then.
    """
    try:
        with tarfile.open(archive, "r:gz") as tar:
            content = {}
            for member in tar:
                inside = PurePosixPath(member.name)
                plain = member.isfile() and not inside.is_absolute() and ".." not in inside.parts
                if not plain or member.size > LARGEST:
                    raise RecordError(f"{archive}: expected only records, got the member {member.name!r}")
                file = tar.extractfile(member)
                assert file is not None
                content[member.name] = file.read()
    except (OSError, tarfile.TarError, EOFError) as error:
        raise RecordError(f"{archive}: expected a .tar.gz that pack wrote, got: {error}") from error
    try:
        manifest = json.loads(content.pop(MANIFEST))
    except (KeyError, ValueError) as error:
        raise RecordError(f"{archive}: expected a {MANIFEST}, got none that can be read") from error
    if set(manifest) != set(content):
        raise RecordError(
            f"{archive}: expected the members of the manifest, got {sorted(set(manifest) ^ set(content))}"
        )
    new, beside, known = [], [], 0
    with tempfile.TemporaryDirectory() as folder:
        for name, data in content.items():
            if hashlib.sha256(data).hexdigest() != manifest[name]:
                raise RecordError(f"{archive}: expected the hash of the manifest for {name}, got another")
            *place, last = PurePosixPath(name).parts
            if (len(place) == 2 and last == PREDICTIONS) or (len(place) == 3 and place[2] == SEALED):
                target = results / name
                if not target.exists():
                    beside.append((target, data.decode("utf-8")))
                elif target.read_bytes() != data:
                    raise RecordError(f"{archive}: {name} is here already and says something else; move it away first")
                continue
            if len(place) != 2:
                raise RecordError(f"{archive}: expected names experiment/profile/hash.json, got {name!r}")
            copy = Path(folder) / PurePosixPath(name).name
            copy.write_bytes(data)
            record = read(copy)
            if PurePosixPath(name).parts[:2] != (record["experiment"], record["profile"]):
                raise RecordError(f"{archive}: expected {name} to hold its own experiment and profile")
            target = results / name
            if not target.exists():
                new.append((target, record))
            elif read(target)["metrics"] != record["metrics"]:
                raise RecordError(f"{archive}: {name} is here already with other metrics; move one of them away first")
            else:
                known += 1
    for target, text in beside:
        write_text(target, text)
    for target, record in new:
        write_json(target, record)
    return len(new), known
