#!/usr/bin/env python3
"""Packs the folders of a family's cases into one tar: pack.py FOLDER FAMILY.tar

The same files give the same bytes: sorted names, no times, no owners, no compression.
"""
import io
import pathlib
import sys
import tarfile


def pack(folder, target):
    with tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(pathlib.Path(folder).rglob("*")):
            if path.is_file():
                entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
                entry.size = path.stat().st_size
                tar.addfile(entry, io.BytesIO(path.read_bytes()))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    pack(sys.argv[1], sys.argv[2])
