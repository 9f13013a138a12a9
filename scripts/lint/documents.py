#!/usr/bin/env python3
"""Fails if the documents name something that is not there.

    scripts/lint/documents.py
    scripts/lint/documents.py --self-test      the checks themselves, on made-up documents

- A link to a file of the repository, and its anchor, must exist.
- So must each path in backquotes (`crates/http/src/range.rs`, `tests/{tls,tls_files}.rs`) of
  ARCHITECTURE.md, CONTRIBUTING.md, README.md, docs/decisions and the three below, and each test
  that `cargo test ... NAME` names in the former.
- Each test that SECURITY.md and docs/changing-files.md name in backquotes (`limits::NAME` of
  tests, `tls/bad_input::NAME` of a crate) must be one, and each row of their tables of promises
  has one or says "not tested".
- docs/dependencies.md has a row for each crate that Cargo.toml names, and each file that uses
  glommio.
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
SOURCE_DIRECTORIES = ("crates", "tests", "scripts", "docs", "config", "fuzz", ".cargo")

FENCE = re.compile(r"^```.*?^```", re.M | re.S)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.M)
CODE = re.compile(r"`([^`\n]+)`")
BRACES = re.compile(r"\{([^{}]*)\}")
MODULE = re.compile(r"[a-z_]\w*(/\w+)*(/|\.rs)")
DATE = re.compile(r"\d{4}-\d\d-\d\d")
CARGO_TEST = re.compile(r"cargo test ([^\n`;]+)")
# `limits::NAME`, `origin::fleet::NAME`, and `tls/bad_input::NAME` of a crate.
TEST_NAME = re.compile(r"(?:([a-z0-9-]+)/)?((?:\w+::)+)(\w+)")
TEST = re.compile(r"#\[test\]\s*(?:#\[.*\].*\s*)*fn (\w+)")
# Documents that name the test of each promise.
PROMISES = ("SECURITY.md", "docs/changing-files.md")
DEPENDENCIES = "docs/dependencies.md"
WORKSPACE_DEPENDENCIES = re.compile(r"^\[workspace\.dependencies\]$(.*?)^\[", re.M | re.S)
GLOMMIO = re.compile(r"^(?!\s*//).*\bglommio::", re.M)
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
    precise = [root / name for name in (*PROMISES, DEPENDENCIES)]
    linked = sorted({*named, *root.glob("*.md"), *root.glob("docs/*.md")})
    tests = names_of_tests(root)
    return [
        *(problem for file in linked for problem in dead_links(root, file)),
        *(problem for file in [*named, *precise] for problem in missing_paths(root, file)),
        *(problem for file in named for problem in missing_tests(root, file, tests)),
        *(problem for name in PROMISES for problem in unkept_promises(root, root / name)),
        *unexplained_dependencies(root, root / DEPENDENCIES),
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
        if not is_path or re.search(r"[*A-Z]{2}", path) or TEST_NAME.fullmatch(path):
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


def unkept_promises(root, file):
    """Names of tests that are none, and rows of promises without a test."""
    text = FENCE.sub("", file.read_text())
    for code in CODE.findall(text):
        name = TEST_NAME.fullmatch(code)
        if name and name[3] != "NAME" and not is_test(root, *name.groups()):
            yield f"{file.relative_to(root)}: no test is called {code}"
    for row in rows(text, last="tests"):
        names = [code for code in CODE.findall(row[-1]) if TEST_NAME.fullmatch(code)]
        if not names and row[-1] != "not tested":
            yield f"{file.relative_to(root)}: no test for: {row[0]}"


def rows(text, last=None):
    """The cells of each row of the tables whose last column has this heading, or of all."""
    for table in re.findall(r"(?:^\|.*\|$\n?)+", text, re.M):
        lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
        if last is None or lines[0][-1] == last:
            yield from lines[2:]


def is_test(root, crate, modules, function):
    modules = modules.removesuffix("::").split("::")
    if crate is None:
        return function in tests_of((root / "tests").joinpath(*modules).with_suffix(".rs"))
    files = (root / "crates" / crate).rglob("*.rs")
    ours = (file for file in files if modules[-1] in (file.stem, file.parent.name))
    return any(function in tests_of(file) for file in ours)


@functools.cache
def tests_of(file):
    return set(TEST.findall(file.read_text())) if file.exists() else set()


def unexplained_dependencies(root, file):
    """Crates without a row, and files that use glommio and are not in the list of these."""
    text = file.read_text()
    explained = {name for row in rows(text) for name in re.findall(r"[\w-]+", row[0])}
    named = WORKSPACE_DEPENDENCIES.search((root / "Cargo.toml").read_text())[1]
    for name in re.findall(r"^([\w-]+) *=", named, re.M):
        if not name.startswith("tidegate-") and name not in explained:
            yield f"{file.relative_to(root)}: no row for {name}"
    listed = {path for code in CODE.findall(text) for path in alternatives(code)}
    for source in sorted(root.glob("crates/*/src/**/*.rs")):
        path = str(source.relative_to(root))
        if path not in listed and GLOMMIO.search(source.read_text()):
            yield f"{file.relative_to(root)}: {path} uses glommio and is not listed"


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
        "tests/a.rs": "fn it_works() {}\n#[test]\n#[ignore]\nfn it_is_kept() {}",
        "tests/b.rs": "",
        "crates/a/src/b/c.rs": "use glommio::Task;\n#[test]\nfn it_holds() {}",
        "SECURITY.md": "| what | tests |\n|---|---|\n| all | `a::it_is_kept`, `a/b::it_holds` |\n",
        "docs/changing-files.md": "`a/c::it_holds` and `a::NAME`",
        "docs/dependencies.md": "`crates/a/src/b/c.rs`\n\n| crate | for |\n|---|---|\n| x, y-z | all |\n",
        "Cargo.toml": "[workspace.dependencies]\ntidegate-a = {}\nx = '1'\ny-z = '2'\n\n[profile.dev]",
    }
    wrong = {
        "README.md": ("[all](docs/b.md)", "docs/b.md does not exist"),
        "docs/a.md": ("# Two", "no such heading"),
        "ARCHITECTURE.md": ("`tests/c.rs`", "tests/c.rs does not exist"),
        "CONTRIBUTING.md": ("`cargo test -p a it_fails -- --x`", "no test is called it_fails"),
        "SECURITY.md": ("| what | tests |\n|---|---|\n| all | `-p x` |", "no test for: all"),
        "docs/changing-files.md": ("`a::it_works`", "no test is called a::it_works"),
        "tests/a.rs": ("fn it_works() {}", "no test is called a::it_is_kept"),
        "docs/dependencies.md": ("| x | all |", "c.rs uses glommio and is not listed"),
        "Cargo.toml": ("[workspace.dependencies]\nw = '1'\n[", "no row for w"),
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
