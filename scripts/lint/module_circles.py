#!/usr/bin/env python3
"""Fails if modules of a crate import each other in a circle.

    scripts/lint/module_circles.py uring tls        the crates crates/uring and crates/tls
    scripts/lint/module_circles.py --allow server:link,send server
    scripts/lint/module_circles.py --self-test

An import is a path that names a module of the same crate: in a `use`, or in the code itself. Paths
through a re-export (`crate::Error`) count for the module that defines the item. A parent's `mod`
and `pub use` of its own children are no imports. Comments, strings and everything under
#[cfg(test)] are left out. Each circle (a strongly connected component) is printed with its imports.
"""

import argparse
import pathlib
import re
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]

NOT_CODE = re.compile(
    r"""//[^\n]*|/\*.*?\*/|\bb?r(#*)".*?"\1|"(?:\\.|[^"\\])*"|'(?:\\[^']*|[^\\'])'""", re.S)
TEST_ITEM = re.compile(r"#\[cfg\((?:all\()?test\b.*?\)\]")
USE = re.compile(r"\b(pub(?:\([^)]*\))?\s+)?use\s+([^;]+);")
PATH = re.compile(r"(?<![\w:])[a-z_]\w*(?:::\w+)+")
MOD_FILE = re.compile(r"\bmod\s+(\w+)\s*;")


class Module:
    """`name` is the path from the crate's root, `()` for the root itself."""

    def __init__(self, name, file):
        self.name, self.file = name, file
        self.code = code_of(file.read_text())
        self.children = MOD_FILE.findall(self.code)
        self.reexports = {}
        self.paths = []


def code_of(text):
    """`text` without comments, strings and tests; every line keeps its number."""
    text = NOT_CODE.sub(lambda found: blank(found.group()), text)
    while found := TEST_ITEM.search(text):
        end = item_end(text, found.end())
        text = text[:found.start()] + blank(text[found.start():end]) + text[end:]
    return text


def blank(text):
    return "\n" * text.count("\n") or " "


def item_end(text, start):
    """Where the item ends that begins at `start`, perhaps with more attributes."""
    depth = 0
    for index in range(start, len(text)):
        character = text[index]
        depth += (character in "([{") - (character in ")]}")
        if depth == 0 and character in ";}":
            return index + 1
    return len(text)


def modules_of(source):
    """The modules of the crate in the directory `source`, by name."""
    root = next(file for file in (source / "lib.rs", source / "main.rs") if file.exists())
    modules, pending = {}, [((), root)]
    while pending:
        name, file = pending.pop()
        module = modules[name] = Module(name, file)
        for child in module.children:
            place = source.joinpath(*name, child)
            files = place.with_suffix(".rs"), place / "mod.rs"
            pending += [((*name, child), file) for file in files if file.exists()]
    for module in modules.values():
        read_paths(module)
    return modules


def read_paths(module):
    """Notes what `module` imports and re-exports, as (line, path from the root)."""
    def note_use(found):
        line = line_of(module.code, found.start(2))
        for path, alias in expand(found.group(2)):
            path = absolute(path, module)
            if path and found.group(1) and path[:len(module.name)] == module.name:
                module.reexports[alias] = path
            elif path:
                module.paths.append((line, path))
        return blank(found.group())

    rest = USE.sub(note_use, module.code)
    for found in PATH.finditer(rest):
        path = absolute(found.group().split("::"), module)
        if path:
            module.paths.append((line_of(rest, found.start()), path))


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def expand(tree):
    """The paths of a use tree, each with the name that it brings into scope."""
    tree = re.sub(r"\s+", " ", tree).strip()
    head, brace, inner = tree.partition("{")
    if not brace:
        path, _, alias = tree.partition(" as ")
        names = path.split("::")
        if names[-1] == "self":
            names.pop()
        return [(names, alias.strip() or names[-1])]
    prefix = head.strip().removesuffix("::").split("::") if head.strip() else []
    paths = []
    for part in split_list(inner[:inner.rindex("}")]):
        paths += [(prefix + names, alias) for names, alias in expand(part)
                  if names] if part != "self" else [(prefix, prefix[-1])]
    return paths


def split_list(text):
    """The parts between the commas that no brace encloses."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "{") - (character == "}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def absolute(names, module):
    """`names` from the crate's root; `None` if they do not lie in the crate."""
    if names[0] == "crate":
        return tuple(names[1:])
    base, names = module.name, list(names)
    if names[0] == "self":
        return base + tuple(names[1:])
    if names[0] == "super":
        while names and names[0] == "super":
            base, names = base[:-1], names[1:]
        return base + tuple(names)
    return base + tuple(names) if names[0] in module.children else None


def defining(path, modules):
    """The module that defines what `path` names."""
    name = ()
    while True:
        rest = path[len(name):]
        if rest and (*name, rest[0]) in modules:
            name = (*name, rest[0])
        elif rest and rest[0] in modules[name].reexports:
            path, name = modules[name].reexports[rest[0]] + rest[1:], ()
        else:
            return name


def imports_of(modules):
    """For each module the modules that it imports, each with the lines that do."""
    imports = {name: {} for name in modules}
    for module in modules.values():
        for line, path in module.paths:
            target = defining(path, modules)
            if target != module.name:
                imports[module.name].setdefault(target, []).append(line)
    return imports


def circles(imports):
    """The strongly connected components of more than one module."""
    def reachable(start):
        seen, pending = set(), [start]
        while pending:
            for name in imports[pending.pop()]:
                if name not in seen:
                    seen.add(name)
                    pending.append(name)
        return seen

    reach = {name: reachable(name) for name in imports}
    found = {frozenset(other for other in reach[name] if name in reach[other]) for name in imports}
    return sorted(sorted(circle) for circle in found if circle)


def check(crate, source, allowed):
    """Prints the circles of a crate that are not allowed; how many those are."""
    modules = modules_of(source)
    imports = imports_of(modules)
    bad = 0
    for circle in circles(imports):
        if (crate, frozenset(map(title, circle))) in allowed:
            continue
        bad += 1
        print(f"{crate}: a circle of {len(circle)} modules: {', '.join(map(title, circle))}")
        for name in circle:
            for target in sorted(set(imports[name]) & set(circle)):
                lines = sorted(set(imports[name][target]))
                print(f"  {title(name)} imports {title(target)}: "
                      + ", ".join(f"{modules[name].file.relative_to(ROOT)}:{line}" for line in lines))
    return bad


def title(name):
    return "::".join(name) or "crate"


def allowance(text):
    """`crate:module,module`: one circle that may stay."""
    crate, _, names = text.partition(":")
    return crate, frozenset(names.split(","))


def self_test():
    """Small crates, and the circles that they have."""
    cases = [
        ("an arrow", {"lib": "mod a;\nmod b;\npub use a::A;", "a": "use crate::b::B;", "b": ""}, []),
        ("two", {"lib": "mod a; mod b;", "a": "use crate::b::B;", "b": "fn f() { crate::a::f() }"},
         ["a b"]),
        ("by a re-export", {"lib": "mod a; mod b; pub use a::{A, X as Y};", "a": "use super::b;",
                            "b": "use crate::{std, Y};"}, ["a b"]),
        ("parent and child", {"lib": "mod a; use a::f; struct S;", "a": "use super::S;"},
         ["crate a"]),
        ("a child of a parent that only re-exports",
         {"lib": "mod a; pub(crate) use a::f; struct S;", "a": "use crate::S;"}, []),
        ("a call without use", {"lib": "mod a; fn g() { a::f() }", "a": "use crate::g;"},
         ["crate a"]),
        ("tests, comments and strings", {
            "lib": "mod a; mod b;", "a": "use crate::b::{self, B};",
            "b": "// crate::a::f\n/* use crate::a; */ const C: &str = \"crate::a::f\";\n"
                 "#[cfg(test)]\n#[allow(x)]\nmod tests { use crate::a; fn f() { {} } }\n"
                 "#[cfg(test)] use crate::a;"}, []),
        ("nested", {"lib": "mod a; mod b;", "a/mod": "mod c; pub use c::C;", "b": "use crate::a::C;",
                    "a/c": "use crate::{\n    b::{B},\n};"}, ["a::c b"]),
        ("three, and one apart", {"lib": "mod a; mod b; mod c; mod d;", "a": "use crate::b;",
                                  "b": "use crate::c;", "c": "use crate::a;", "d": "use crate::a;"},
         ["a b c"]),
    ]
    for name, files, expected in cases:
        with tempfile.TemporaryDirectory() as directory:
            source = pathlib.Path(directory)
            for file, text in files.items():
                path = source / f"{file}.rs"
                path.parent.mkdir(exist_ok=True)
                path.write_text(text)
            found = circles(imports_of(modules_of(source)))
        found = [" ".join(map(title, circle)) for circle in found]
        assert found == expected, f"{name}: {found}, not {expected}"
    print(f"{len(cases)} cases pass")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("crates", nargs="*", help="directories of crates/")
    parser.add_argument("--allow", action="append", default=[], type=allowance,
                        metavar="CRATE:MODULE,...", help="a circle that may stay")
    parser.add_argument("--self-test", action="store_true")
    arguments = parser.parse_args()
    if arguments.self_test:
        self_test()
    bad = sum(check(crate, ROOT / "crates" / crate / "src", arguments.allow)
              for crate in arguments.crates)
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
