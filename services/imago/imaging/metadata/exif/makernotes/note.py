"""A maker note: where its directories are, and the two fields that Imago needs from it."""

from dataclasses import dataclass

from imago.imaging.containers.ifd import Directories, Tags


@dataclass(frozen=True)
class MakerNote:
    """The lens and the sensitivity, where the standard tags don't have them."""

    lens: str | None = None
    iso: int | None = None


@dataclass(frozen=True)
class Note:
    """The bytes of a maker note in its file: from `start`, `size` bytes long."""

    directories: Directories
    start: int
    size: int
    make: str
    """In upper case; '' if unknown."""

    def head(self, size: int = 16) -> bytes:
        """Return the first bytes."""
        return self.directories.bytes_at(self.start, min(size, self.size))

    def tags(self, skip: int, wanted: frozenset[int], *, base: int = 0, order: str | None = None) -> Tags:
        """Return the wanted tags of the directory after `skip` bytes of the note."""
        return self.tags_at(self.start + skip, wanted, base=base, order=order)

    def tags_at(self, start: int, wanted: frozenset[int], *, base: int = 0, order: str | None = None) -> Tags:
        """Return the wanted tags of a directory.

        Its offsets count from `base`, by default the beginning of EXIF. Its byte order is found if it isn't given:
        programs that change the order of a file don't change that of the note.
        """
        return self.directories.nested(start, wanted, base=base, order=order or self._order(start))

    def _order(self, start: int) -> str:
        # A directory has fewer than 256 entries, so that the larger byte of their number is zero.
        count = self.directories.bytes_at(start, 2)
        return "<" if count[1:] == b"\0" else ">" if count[:1] == b"\0" else self.directories.order
