#!/usr/bin/env python3
"""Fails if the documents name something that is not there.

    scripts/lint/documents.py
    scripts/lint/documents.py --self-test      the checks themselves, on made-up documents

- A link to a file of the repository, and its anchor, must exist.
- So must each path in backquotes (`crates/http/src/range.rs`, `tests/{tls,tls_files}.rs`) of
  ARCHITECTURE.md, CONTRIBUTING.md, README.md and docs/decisions, and each test that
  `cargo test ... NAME` names there.
- ARCHITECTURE.md has at most 8192 bytes, and each file or folder that it names without its path
  (`timeouts.rs`, `accept/`) must exist in a crate.
- Each decision has a date, files and a command, and one line in docs/decisions/README.md.
"""

import argparse
import functools
import itertools
import pathlib
import re
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]

ARCHITECTURE_BYTES_MAX = 8192
SOURCE_DIRECTORIES = ("crates", "tests", "scripts", "docs", "config", ".cargo")

FENCE = re.compile(r"^```.*?^```", re.M | re.S)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.M)
CODE = re.compile(r"`([^`\n]+)`")
BRACES = re.compile(r"\{([^{}]*)\}")
MODULE = re.compile(r"[a-z_]\w*(/\w+)*(/|\.rs)")
DATE = re.compile(r"\d{4}-\d\d-\d\d")
CARGO_TEST = re.compile(r"cargo test ([^\n`;]+)")
# Options of cargo test that are followed by a value.
WITH_VALUE = {"-p", "--package", "--test", "--features", "--example", "--bench"}


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--self-test", action="store_true", help="check the checks first")
    if options.parse_args().self_test:
        self_test()
    problems = check(ROOT)
    print(*problems, sep="\n", end="\n" if problems else "")
    sys.exit(1 if problems else 0)


def check(root):
    """What is wrong, a line each."""
    decisions = root / "docs/decisions"
    named = [root / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")]
    named += sorted(decisions.glob("*.md"))
    linked = sorted({*named, *root.glob("*.md"), *root.glob("docs/*.md")})
    tests = names_of_tests(root)
    return [
        *(problem for file in linked for problem in dead_links(root, file)),
        *(problem for file in named for problem in missing_paths(root, file)),
        *(problem for file in named for problem in missing_tests(root, file, tests)),
        *missing_modules(root, root / "ARCHITECTURE.md"),
        *too_long(root / "ARCHITECTURE.md"),
        *incomplete_decisions(root, decisions),
    ]


def dead_links(root, file):
    for target in LINK.findall(FENCE.sub("", file.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (file.parent / path).resolve() if path else file
        if not found.exists():
            yield f"{file.relative_to(root)}: {target} does not exist"
        elif anchor and anchor not in anchors(found):
            yield f"{file.relative_to(root)}: {target}: no such heading"


@functools.cache
def anchors(file):
    return [anchor(heading) for heading in HEADING.findall(FENCE.sub("", file.read_text()))]


def anchor(heading):
    """As GitHub makes it of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def missing_paths(root, file):
    for text in CODE.findall(FENCE.sub("", file.read_text())):
        path = text.split()[0].removeprefix("./")
        is_path = "/" in path and path.split("/")[0] in SOURCE_DIRECTORIES
        if not is_path or re.search(r"[*A-Z]{2}", path):
            continue
        for each in alternatives(path):
            if not (root / each).exists():
                yield f"{file.relative_to(root)}: {each} does not exist"


def alternatives(path):
    """`a/{b,c}.rs` as `a/b.rs` and `a/c.rs`."""
    pieces = [piece.split(",") for piece in BRACES.split(path)]
    return ["".join(each) for each in itertools.product(*pieces)]


def missing_modules(root, file):
    """`timeouts.rs` and `accept/` stand for a file or folder of any crate."""
    for name in CODE.findall(FENCE.sub("", file.read_text())):
        is_whole_path = name.split("/")[0] in SOURCE_DIRECTORIES
        if is_whole_path or not MODULE.fullmatch(name):
            continue
        if not any(root.glob(f"crates/*/src/**/{name}")):
            yield f"{file.name}: no crate has {name}"


def names_of_tests(root):
    """Functions, and the modules that they are in, of all Rust files."""
    patterns = ("tests/**/*.rs", "crates/*/src/**/*.rs", "crates/*/tests/**/*.rs")
    files = [file for pattern in patterns for file in root.glob(pattern)]
    functions = [name for file in files for name in re.findall(r"\bfn (\w+)", file.read_text())]
    modules = [part for file in files for part in (file.stem, file.parent.name)]
    return "\n".join([*functions, *modules])


def missing_tests(root, file, tests):
    for command in CARGO_TEST.findall(file.read_text()):
        for name in filters(command.split(" -- ")[0].split("#")[0].split()):
            if not all(part in tests for part in name.split("::")):
                yield f"{file.relative_to(root)}: no test is called {name}"


def filters(words):
    """The words of a `cargo test` command that choose tests by name."""
    previous = ""
    for word in words:
        if previous not in WITH_VALUE and re.fullmatch(r"[a-z][\w:]*", word):
            yield word
        previous = word


def too_long(file):
    size = file.stat().st_size
    if size > ARCHITECTURE_BYTES_MAX:
        yield f"{file.name} has {size} bytes, more than {ARCHITECTURE_BYTES_MAX}"


def incomplete_decisions(root, directory):
    index = LINK.findall((directory / "README.md").read_text())
    for file in sorted(directory.glob("*.md")):
        if file.name == "README.md":
            continue
        for section in re.split(r"^## ", file.read_text(), flags=re.M)[1:]:
            heading = section.splitlines()[0]
            place = f"{file.relative_to(root)}: {heading}"
            for field, needed in (("Date", DATE), ("Code", CODE), ("Repeat", CODE)):
                line = re.search(rf"^- {field}:(.*(?:\n  .*)*)", section, re.M)
                if not line or not needed.search(line[1]):
                    yield f"{place}: no line '- {field}:'"
            count = index.count(f"{file.name}#{anchor(heading)}")
            if count != 1:
                yield f"{place}: {count} lines in README.md, not 1"


def self_test():
    """Right documents pass, and each mistake is found."""
    code = "- Code: `tests/a.rs`\n"
    right = {
        "README.md": "[all](docs/a.md#one-two)",
        "ARCHITECTURE.md": "`tests/{a,b}.rs`, `b/`, `b/c.rs`",
        "CONTRIBUTING.md": "`cargo test --test a it_`",
        "docs/a.md": "# One, `two`",
        "docs/decisions/README.md": "- [x](io.md#x)",
        "docs/decisions/io.md": f"## X\n\n- Date: 2026-01-02\n{code}- Repeat: `cargo test it_`",
        "tests/a.rs": "fn it_works() {}",
        "tests/b.rs": "",
        "crates/a/src/b/c.rs": "",
    }
    wrong = {
        "README.md": ("[all](docs/b.md)", "docs/b.md does not exist"),
        "docs/a.md": ("# Two", "no such heading"),
        "ARCHITECTURE.md": ("`tests/c.rs`", "tests/c.rs does not exist"),
        "CONTRIBUTING.md": ("`cargo test -p a it_fails -- --x`", "no test is called it_fails"),
        "docs/decisions/README.md": ("", "0 lines in README.md"),
        "docs/decisions/io.md": (f"## X\n\n{code}- Repeat: `true`\n", "no line '- Date:'"),
    }
    assert problems_of(right) == [], problems_of(right)
    assert problems_of({**right, "ARCHITECTURE.md": "`d/`"}) == ["ARCHITECTURE.md: no crate has d/"]
    long = {**right, "ARCHITECTURE.md": "." * (ARCHITECTURE_BYTES_MAX + 1)}
    assert problems_of(long) == ["ARCHITECTURE.md has 8193 bytes, more than 8192"]
    for name, (text, expected) in wrong.items():
        problems = problems_of({**right, name: text})
        assert any(expected in problem for problem in problems), (name, problems)


def problems_of(files):
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        for name, text in files.items():
            file = root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return check(root)


if __name__ == "__main__":
    main()
