"""What `zeromsg demo` shows: colour on a terminal, plain lines elsewhere."""

import statistics
import time
from collections.abc import Sequence

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from zeromsg.cli.demo_nodes import DemoPair

KEPT = 1000
"""Latencies that the summary is made of."""


class Screen:
    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        ascii_only = self._console.options.ascii_only
        self._arrow, self._reply = ("->", "<-") if ascii_only else ("→", "←")
        self._latencies: list[float] = []
        self._arrived = 0
        self._answered = 0

    def note(self, text: str) -> None:
        self._console.print(Text(text, style="dim"))

    def addresses(self, pair: DemoPair) -> None:
        """Where to look, once both nodes are ready."""
        lines = Table.grid(padding=(0, 2))
        for node in pair.nodes:
            url = f"{node.url}/{pair.site}"
            link = Text(url, style=f"bold cyan link {url}", no_wrap=True)
            lines.add_row(Text(f"Node {node.letter}"), link)
        if self._console.is_terminal:
            title = "Two nodes are up. Open these in a browser and chat:"
            self._console.print(Panel(lines, title=title, title_align="left", expand=False))
        else:
            self._console.print("Two nodes are up. Open these in a browser and chat:")
            self._console.print(lines)
        self._console.print(Text("Ctrl-C ends it.", style="dim"))

    def crossed(self, source: str, target: str, text: str, seconds: float) -> None:
        """A broadcast said at one node has arrived at the other."""
        self._arrived += 1
        self._latencies = [*self._latencies[1 - KEPT :], seconds]
        self._line(f"{source} {self._arrow} {target}", "green", text, seconds)

    def answered(self, question: str, replies: Sequence[str], seconds: float) -> None:
        """All replies to a question are in."""
        self._answered += 1
        self._line(f"A {self._arrow} ?", "yellow", question, None)
        for text in replies:
            self._line(f"A {self._reply} B", "yellow", text, seconds)

    def asked(self, target: str, text: str) -> None:
        """Somebody asks a question in a page, and those at this node may answer it."""
        self._line(f"? {self._arrow} {target}", "yellow", text, None)

    def _line(self, way: str, style: str, text: str, seconds: float | None) -> None:
        self._console.print(
            Text.assemble(
                (time.strftime("%H:%M:%S"), "dim"),
                "  ",
                (way, f"bold {style}"),
                "  ",
                text,
                (f"  {seconds * 1000:.1f} ms" if seconds is not None else "", "dim"),
            )
        )

    def summary(self) -> None:
        if self._latencies:
            middle = statistics.median(self._latencies) * 1000
            self.note(
                f"{self._arrived} message(s) crossed, in {middle:.1f} ms at the median; "
                f"{self._answered} question(s) answered."
            )
