#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Records a program on a pseudo-terminal as an animated SVG without JavaScript.

Lines are typed key by key, each once the program asks for one (it then turns bracketed paste on). What the program
writes is shown when it wrote it. The last picture is what stays where nothing is animated. README's is made so:

  tools/record_terminal.py docs/images/chat.svg --shown '$ qwen_chat -m model.gguf --arena 40%' \\
    --line 'Who art thou?' --line '/budget 25%' --line 'And what shall I do?' -- \\
    build/release/bin/qwen_chat -m tests/data/models/tiny-qwen2-q4_k_m.gguf --device host --arena 40% -n 48 --seed 4
"""
import argparse
import fcntl
import html
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time

ASKS = b"\x1b[?2004h"
PATIENCE = 30  # seconds
KEY = 0.07  # seconds from one key to the next
READING = 1.6  # seconds before a line is typed
LAST = 4.0  # seconds that the last picture stays
GRID = 0.05  # seconds: what comes within them is one picture
WIDTH, HEIGHT, MARGIN = 8.4, 19, 16  # of a character, a line and the frame, in pixels

SEQUENCE = re.compile(r"\x1b(?:\[([?0-9;]*)([@-~])|[^\[])")


class Screen:
    """Lines of (character, dim), as far as programs that write line by line need a terminal."""

    def __init__(self, columns, rows):
        self.columns, self.rows = columns, rows
        self.lines, self.x, self.y, self.dim = [[]], 0, 0, False

    def write(self, text):
        at = 0
        while at < len(text):
            sequence = SEQUENCE.match(text, at)
            if sequence:
                self.control(sequence.group(1) or "", sequence.group(2))
                at = sequence.end()
                continue
            self.put(text[at])
            at += 1

    def put(self, c):
        if c == "\r":
            self.x = 0
        elif c == "\n":
            self.down()
        elif c == "\b":
            self.x = max(self.x - 1, 0)
        elif c >= " ":
            if self.x == self.columns:
                self.x = 0
                self.down()
            line = self.lines[self.y]
            line.extend([(" ", False)] * (self.x + 1 - len(line)))
            line[self.x] = (c, self.dim)
            self.x += 1

    def down(self):
        self.y += 1
        if self.y == len(self.lines):
            self.lines.append([])
        if len(self.lines) > self.rows:
            self.lines.pop(0)
            self.y -= 1

    def control(self, numbers, kind):
        count = int(numbers) if numbers.isdigit() else 1
        if kind == "m":
            self.dim = numbers == "2"
        elif kind == "K" and numbers in ("", "0"):
            del self.lines[self.y][self.x:]
        elif kind == "J" and numbers in ("", "0"):
            del self.lines[self.y][self.x:]
            del self.lines[self.y + 1:]
        elif kind == "C":
            self.x = min(self.x + count, self.columns - 1)
        elif kind == "D":
            self.x = max(self.x - count, 0)
        elif kind == "A":
            self.y = max(self.y - count, 0)

    def picture(self):
        return [tuple(line) for line in self.lines]


class Program:
    """A child on a pseudo-terminal, and what it wrote: (seconds since the beginning, bytes)."""

    def __init__(self, command, columns, rows):
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm"
            os.execvp(command[0], command)
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.begin, self.written = time.monotonic(), []

    def read(self, seconds):
        """False at the end of the program."""
        if not select.select([self.terminal], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self.terminal, 65536)
        except OSError:
            return False
        self.written.append((time.monotonic() - self.begin, data))
        return bool(data)

    def until(self, text, count):
        end = time.monotonic() + PATIENCE
        while b"".join(data for _, data in self.written).count(text) < count:
            if not self.read(0.1) or time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
                sys.exit("record_terminal.py: the program asks for no line; it wrote: "
                         + repr(b"".join(data for _, data in self.written)[-400:]))

    def pause(self, seconds):
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and self.read(left):
            pass

    def type(self, line):
        for key in line + "\r":
            os.write(self.terminal, key.encode())
            self.pause(KEY)

    def finish(self):
        os.write(self.terminal, b"\x04")
        end = time.monotonic() + PATIENCE
        while self.read(0.1):
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
                sys.exit("record_terminal.py: the program does not end with Ctrl-D")
        os.waitpid(self.pid, 0)


def record(command, lines, columns, rows):
    program = Program(command, columns, rows)
    for i, line in enumerate(lines):
        program.until(ASKS, i + 1)
        program.pause(READING)
        program.type(line)
    program.until(ASKS, len(lines) + 1)
    program.pause(0.1)
    written = list(program.written)
    program.finish()
    return written


def pictures(written, shown, columns, rows):
    """[(seconds, lines of the screen)], each different from the one before."""
    screen = Screen(columns, rows)
    screen.write(shown + "\r\n")
    all_pictures = [(0.0, screen.picture())]
    rest = b""
    for seconds, data in written:
        data = rest + data
        text = data.decode(errors="ignore")
        rest = data[len(text.encode()):]
        screen.write(text)
        seconds = max(round(seconds / GRID) * GRID, all_pictures[-1][0])
        if seconds == all_pictures[-1][0]:
            all_pictures.pop()
        if not all_pictures or screen.picture() != all_pictures[-1][1]:
            all_pictures.append((seconds, screen.picture()))
    return all_pictures


def spans(line):
    """(column, text, dim) of each stretch of a line in one shade."""
    begin = 0
    for i in range(1, len(line) + 1):
        if i == len(line) or line[i][1] != line[begin][1]:
            text = "".join(c for c, _ in line[begin:i])
            if text.strip():
                yield begin, text.rstrip(), line[begin][1]
            begin = i


def shows(all_pictures, end):
    """{(row, line): [(from, to)]}: when each line stands in a row."""
    found = {}
    for i, (seconds, lines) in enumerate(all_pictures):
        until = all_pictures[i + 1][0] if i + 1 < len(all_pictures) else end
        for row, line in enumerate(lines):
            times = found.setdefault((row, line), [])
            if times and times[-1][1] == seconds:
                times[-1] = (times[-1][0], until)
            else:
                times.append((seconds, until))
    return found


def keyframes(name, times, end):
    steps = [] if times[0][0] == 0 else ["0%{opacity:0}"]
    for begin, until in times:
        steps.append(f"{100 * begin / end:.2f}%{{opacity:1}}")
        if until < end:
            steps.append(f"{100 * until / end:.2f}%{{opacity:0}}")
    return f"@keyframes {name}{{{''.join(steps)}}}"


def svg(all_pictures, columns, rows, title):
    end = all_pictures[-1][0] + LAST
    width, height = columns * WIDTH + 2 * MARGIN, rows * HEIGHT + 2 * MARGIN
    styles, texts, names = [], [], {}
    for (row, line), times in sorted(shows(all_pictures, end).items(), key=lambda entry: entry[1]):
        drawn = list(spans(line))
        if not drawn:
            continue
        always = times == [(0.0, end)]
        if not always and tuple(times) not in names:
            names[tuple(times)] = f"k{len(names)}"
            styles.append(keyframes(names[tuple(times)], times, end))
        stays = times[-1][1] == end
        style = "" if always else f' style="animation-name:{names[tuple(times)]}"'
        texts.append(f'<g class="{"" if always else "a"}{"" if stays else " gone"}"{style}>')
        for column, text, dim in drawn:
            texts.append(f'<text x="{MARGIN + column * WIDTH:.1f}" y="{MARGIN + (row + 0.75) * HEIGHT:.1f}" '
                         f'textLength="{len(text) * WIDTH:.1f}"{" class=" + chr(34) + "d" + chr(34) if dim else ""}>'
                         f"{html.escape(text)}</text>")
        texts.append("</g>")
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img">',
        f"<title>{html.escape(title)}</title>",
        "<style>text{font:14px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#e6e6e6;white-space:pre}"
        f".d{{fill:#8f98a3}}.gone{{opacity:0}}.a{{animation:{end:.2f}s step-end infinite}}",
        *styles,
        "@media (prefers-reduced-motion:reduce){.a{animation:none}}</style>",
        f'<rect width="{width:.0f}" height="{height:.0f}" rx="8" fill="#15191e"/>', *texts, "</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", help="SVG file to write")
    parser.add_argument("--line", action="append", default=[], help="typed, with Enter; may be given several times")
    parser.add_argument("--shown", help="the command as it is shown above what it writes")
    parser.add_argument("--columns", type=int, default=110)
    parser.add_argument("--rows", type=int, default=20)
    parser.add_argument("command", nargs="+", help="behind --: the program and its arguments")
    options = parser.parse_args()
    shown = options.shown or "$ " + " ".join(options.command)
    written = record(options.command, options.line, options.columns, options.rows)
    recorded = pictures(written, shown, options.columns, options.rows)
    rows = max(len(lines) for _, lines in recorded)
    with open(options.out, "w", encoding="utf-8") as out:
        out.write(svg(recorded, options.columns, rows, shown))


if __name__ == "__main__":
    main()
