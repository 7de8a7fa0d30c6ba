"""Carry records between machines: one archive, verified file by file on arrival."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter

from empirical.engine.records import PREDICTIONS, RecordError, files, parse, read, write_all
from empirical.engine.sealed import FOLDER as SEALED
from theory.numerics import require

MANIFEST = "manifest.json"
#: records are small; a member larger than this is not one
LARGEST = 16 * 2**20
#: what pack writes
_NAME = re.compile(
    r"(?P<experiment>\w+)/(?P<profile>\w+)/"
    rf"((?P<record>[0-9a-f]+)\.json|{re.escape(PREDICTIONS)}|{SEALED}/[0-9a-f]+(\.[0-9]+)?\.json)"
)
_HASHES = TypeAdapter(dict[str, str])


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
        RecordError: not such an archive, a member outside the manifest, twice, with another name than a record's or
            another hash, a damaged record, one that differs from the one that is there, or a place that cannot be
            written. Nothing is written then.
    """
    content: dict[str, bytes] = {}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                fits = member.name == MANIFEST or _NAME.fullmatch(member.name)
                if not (fits and member.isfile() and member.size <= LARGEST and member.name not in content):
                    raise RecordError(f"{archive}: expected only records, each once, got the member {member.name!r}")
                file = tar.extractfile(member)
                assert file is not None
                content[member.name] = file.read()
    except (OSError, tarfile.TarError, EOFError) as error:
        raise RecordError(f"{archive}: expected a .tar.gz that pack wrote, got: {error}") from error
    try:
        manifest = _HASHES.validate_json(content.pop(MANIFEST))
    except (KeyError, ValueError) as error:
        raise RecordError(f"{archive}: expected a {MANIFEST}, got none that can be read") from error
    if set(manifest) != set(content):
        raise RecordError(
            f"{archive}: expected the members of the manifest, got {sorted(set(manifest) ^ set(content))}"
        )
    new: dict[Path, bytes] = {}
    records = known = 0
    for name, data in sorted(content.items(), key=lambda member: not member[0].endswith(PREDICTIONS)):
        if hashlib.sha256(data).hexdigest() != manifest[name]:
            raise RecordError(f"{archive}: expected the hash of the manifest for {name}, got another")
        target, match = results / name, _NAME.fullmatch(name)
        assert match is not None
        if match["record"] is not None:
            try:
                record = parse(data, match["record"])
            except RecordError as error:
                raise RecordError(f"{archive}: {name}: {error}") from error
            if (match["experiment"], match["profile"]) != (record["experiment"], record["profile"]):
                raise RecordError(f"{archive}: expected {name} to hold its own experiment and profile")
            if target.is_file() and read(target)["metrics"] != record["metrics"]:
                raise RecordError(f"{archive}: {name} is here already with other metrics; move one of them away first")
            records, known = records + (not target.is_file()), known + target.is_file()
        elif target.is_file() and target.read_bytes() != data:
            raise RecordError(f"{archive}: {name} is here already and says something else; move it away first")
        if not target.is_file():
            new[target] = data
    write_all(new)
    return records, known
