"""Wheels unpacked to a folder of packages, for any machine: nothing is run, and the same wheels give the same bytes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ...errors import KitError, one_line, storage_errors
from .targets import need

if TYPE_CHECKING:
    from installer.utils import Scheme

_INSTALLER = b"medge\n"
_MODULES = ("purelib", "platlib")


def install_wheels(wheels: Iterable[Path], folder: Path) -> None:
    """Install wheels into a folder, which the interpreter finds as `packages` beside its own.

    The programs of packages are left out: what a kit runs it runs by `python3 -m`. Each file is checked against its
    wheel's record.

    Args:
        wheels: in any order.
        folder: made where it is not there.

    Raises:
        MissingExtraError: the package "installer" is not here.
        KitError: a file is no wheel, is damaged, or two wheels bring the same file with other content.
    """
    need("installer")
    import installer
    from installer.sources import WheelFile

    for wheel in sorted(wheels, key=lambda path: path.name):
        with storage_errors(folder):
            try:
                with WheelFile.open(wheel) as source:
                    source.validate_record(validate_contents=True)
                    installer.install(source, _destination(folder), {"INSTALLER": _INSTALLER})
            except FileExistsError as error:
                raise KitError(f"{wheel.name} brings a file that another package has: {one_line(error)}") from error
            except OSError:
                raise
            except Exception as error:
                raise KitError(f"{wheel} is no wheel, or is damaged: {one_line(error)}") from error


def _destination(folder: Path) -> Any:
    from installer.destinations import SchemeDictionaryDestination
    from installer.records import RecordEntry

    class Packages(SchemeDictionaryDestination):
        """A folder that takes a wheel's modules, and no programs, headers, or files for elsewhere."""

        def write_script(self, name: str, module: str, attr: str, section: Any) -> RecordEntry:
            return RecordEntry(name, None, None)

        def write_file(self, scheme: Scheme, path: Any, stream: BinaryIO, is_executable: bool) -> RecordEntry:
            if scheme not in _MODULES:
                return RecordEntry(str(path), None, None)
            return super().write_file(scheme, path, stream, is_executable)

        def finalize_installation(
            self, scheme: Scheme, record_file_path: str, records: Iterable[tuple[Scheme, RecordEntry]]
        ) -> None:
            # Both kinds of modules lie in one folder, and so are recorded as of one.
            kept = sorted(((scheme, one) for place, one in records if place in _MODULES), key=lambda one: one[1].path)
            super().finalize_installation(scheme, record_file_path, kept)

    places = dict.fromkeys(("purelib", "platlib", "headers", "scripts", "data"), str(folder))
    return Packages(places, interpreter="python3", script_kind="posix", bytecode_optimization_levels=())
