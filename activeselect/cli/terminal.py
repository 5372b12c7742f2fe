"""Terminal of a command: lines that stay, and one below them that is redrawn.

Where the output is no terminal (a file, CI, SLURM) only the lines that stay are written.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
import time
from types import TracebackType
from typing import TextIO

_SECONDS_BETWEEN_DRAWS = 0.2
_WIDEST_BAR = 10


class Terminal:
    """Says lines, and shows how far something is.

    Args:
        quiet: write nothing.
        stream: where to; default: standard output.

    Example:
        >>> import io
        >>> with Terminal(stream=io.StringIO()) as terminal:
        ...     terminal.say("done")
        ...     terminal.stream.getvalue()
        'done\\n'
    """

    def __init__(self, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self.quiet, self.stream = quiet, stream or sys.stdout
        self.draws = not quiet and self.stream.isatty()
        self._shown, self._last = "", 0.0
        self._began: tuple[float, int] | None = None  # when, and what was done by then

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.show("")

    def say(self, line: str) -> None:
        """Write a line that stays."""
        if not self.quiet:
            self.show("")
            width = shutil.get_terminal_size().columns
            parts = textwrap.wrap(line, width, subsequent_indent="  ") if self.draws else [line]
            self.stream.write("\n".join(parts) + "\n")
            self.stream.flush()

    def show(self, text: str) -> None:
        """Draw the line that is redrawn, cut to the terminal's width; an empty one removes it."""
        if not self.draws:
            return
        width = shutil.get_terminal_size().columns - 1  # in the last column a terminal wraps
        text = text if len(text) <= width else text[: width - 1] + "…"
        self.stream.write(f"\r{' ' * len(self._shown)}\r{text}")
        self.stream.flush()
        self._shown = text

    def progress(self, done: int, total: int, doing: str) -> None:
        """Show a share of a whole and what is done now; called as often as one likes."""
        now = time.monotonic()
        if self._began is None or done < self._began[1]:
            self._began = (now, done)
        if now - self._last >= _SECONDS_BETWEEN_DRAWS:
            self._last = now
            began, before = self._began
            if done > before and "left" not in doing:
                left = (now - began) * (total - done) / (done - before)
                doing += f", {left:.0f} s left" if left < 100 else f", {left / 60:.0f} min left"
            share = min(done / max(total, 1), 1.0)
            count = f"{done:,} of {total:,}  " if total != 1 else ""
            words = f" {share:4.0%}  {count}{doing}"
            # the bar gives way to the words
            room = shutil.get_terminal_size().columns - 1 - len(words)
            wide = min(max(room, 0), _WIDEST_BAR)
            full = int(share * wide)
            self.show("━" * full + "─" * (wide - full) + words)
