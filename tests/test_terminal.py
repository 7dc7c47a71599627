"""Text is printed as it is, and printing ends no program."""

import io
import os
import subprocess
import sys

import pytest
from rich.console import Console as RichConsole

from equiforce.terminal import (
    Table,
    TextColumn,
    bar,
    note,
    one_line,
    own_console,
    say,
    shortened,
    show,
    track,
    working,
)

HOSTILE = "fcc[bold] [/] [slab] [link=http://x]a[/link] :smile: {task} $x$ \\[red]"


@pytest.fixture(params=["own", "of a user"])
def console(request):
    """Our own console, and one of a user, which reads markup, emoji and numbers."""
    made = own_console(width=200) if request.param == "own" else RichConsole(width=200, force_terminal=True)
    made.file = io.StringIO()
    return made


def printed(console):
    return console.file.getvalue()


def test_lines_are_printed_as_they_are(console):
    say(console, HOSTILE, "x" * 500)
    note(console, HOSTILE)
    assert printed(console).startswith(f"{HOSTILE}\n{'x' * 500}\n")
    assert f"note: {HOSTILE}" in printed(console)


def test_tables_are_printed_as_they_are(console):
    table = Table(HOSTILE)
    table.add_column(f"a {HOSTILE}")
    table.add_column("two\nlines")
    table.add_row(HOSTILE, 7, style="yellow")
    table.add_row("b", HOSTILE, styles=["", "red"])
    show(console, table)
    assert printed(console).count(HOSTILE) == 4
    assert "\\n" not in printed(console)


def test_bars_and_waiting_show_text_as_it_is(console):
    with bar(console, TextColumn("{task.fields[now]} of")) as shown:
        shown.add_task("", now=HOSTILE)
        shown.refresh()
    with working(console, HOSTILE):
        pass
    assert f"{HOSTILE} of" in printed(console)
    assert list(track([1, 2], "[/]", console, visible=False)) == [1, 2]


def test_characters_without_a_sign_are_escaped(console):
    say(console, "a\x1b[31mb\nc\x00\u202e\udcff\u2028d\r", "Å")
    lines = printed(console)
    assert "a\\x1b[31mb\\nc\\x00\\u202e\\udcff\\u2028d\\r\nÅ\n" in lines
    table = Table("\x1b]0;title\x07")
    table.add_row("a\nb" + "x" * 20)
    show(console, table)
    assert "\\x1b]0;title\\x07" in printed(console)
    assert "a\\nb" in printed(console)


def test_long_texts_are_shortened_in_the_middle():
    assert one_line(7) == "7"
    assert shortened("a" * 10, 10) == "a" * 10
    assert shortened(f"start{'x' * 100}\nend", 11) == "start…\\nend"


def test_an_encoding_without_a_character_ends_nothing():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console = RichConsole(file=stream)
    say(console, "Å 😀 \udcff")
    show(console, Table("Å"))
    stream.flush()
    assert stream.buffer.getvalue().startswith(b"\\xc5 \\U0001f600 \\udcff\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux")
def test_a_full_disk_silences_the_output_and_says_so():
    program = "from equiforce.terminal import own_console, say; c = own_console(); say(c, 'a'); say(c, 'b')"
    with open("/dev/full", "w", encoding="utf-8") as full:
        run = subprocess.run(
            [sys.executable, "-c", program], check=True, stdout=full, stderr=subprocess.PIPE, encoding="utf-8"
        )
    assert run.stderr == "the standard output cannot be written (No space left on device): the rest is not shown\n"


def test_a_console_that_fails_is_silent():
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    console = RichConsole(file=Full())
    say(console, "a")
    assert console.quiet
