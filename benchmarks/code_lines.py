"""Code lines of the package by room: no blank lines, comments or docstrings.

python benchmarks/code_lines.py [--files]
"""

import ast
import io
import sys
import tokenize
from collections import Counter
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "ragcun_cli"
NOTHING = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE),
    *(tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),
}


def code_lines(text: str) -> int:
    """Lines with code; a text that stands as a statement of its own is a docstring."""
    docstrings = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    lines = {
        line
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in NOTHING
        for line in range(token.start[0], token.end[0] + 1)
    }
    return len(lines - docstrings)


def room(file: Path) -> str:
    parts = file.relative_to(PACKAGE).parts[:-1]
    return "/".join(parts[:2]) or "."


if __name__ == "__main__":
    by_file = {file: code_lines(file.read_text("utf-8")) for file in sorted(PACKAGE.rglob("*.py"))}
    rooms: Counter[str] = Counter()
    for file, lines in by_file.items():
        rooms[room(file)] += lines
    for name, lines in sorted(rooms.items()):
        print(f"{lines:6,}  {name}")
        if "--files" in sys.argv:
            for file, count in by_file.items():
                if room(file) == name:
                    print(f"        {count:5,}  {file.relative_to(PACKAGE)}")
    print(f"{rooms.total():6,}  in all")
