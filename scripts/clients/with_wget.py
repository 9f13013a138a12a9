"""wget: mirrors of a tree of thousands of files, and of a directory that has but its listing."""

from contextlib import nullcontext

from outcome import expect, require
from site_tree import in_listing
from stage import compare_trees, files_beneath, run

TOOLS = ("wget",)
# 8: some page links to what is not there, and was answered so.
STATUSES = (0, 8)
MIRROR = (
    "wget",
    "--mirror",
    "--no-host-directories",
    "--no-verbose",
    "--execute=robots=off",
    # The names as they are, whatever the locale.
    "--restrict-file-names=unix,nocontrol",
    "--local-encoding=UTF-8",
    # Pages of documentation link to themselves with queries.
    "--reject-regex=[?]",
)


def session(stage):
    """The stage, and where the mirror goes."""
    return nullcontext((stage, stage.room()))


def mirror(subject):
    """--mirror of the tree, compared."""
    stage, copy = subject
    run_mirror(stage, copy)
    return compare_trees(stage.root / "main/tree", copy / "tree")


def run_mirror(stage, copy):
    # What pages link to beside these is not in the tree.
    there = [f"/tree/{path.name}" for path in (stage.root / "main/tree").iterdir() if path.is_dir()]
    command = (*MIRROR, f"--include-directories={','.join(there)},/tree", stage.url("/links.html"))
    return run(*command, cwd=copy, statuses=STATUSES)


def mirror_again(subject):
    """--mirror again transfers nothing."""
    stage, copy = subject
    require((copy / "links.html").exists(), "there is no mirror yet")
    before = changes(copy)
    log = run_mirror(stage, copy).stderr.decode(errors="replace")
    saved = [line for line in log.splitlines() if " URL:" in line]
    # --no-verbose has a line for what is transferred, and none for a 304.
    expect("what was transferred again", saved, [])
    require(changes(copy) == before, "files were written again")
    return f"{len(before)} files are up to date"


def changes(copy):
    """When each file was changed, of which only the system can tell lies."""
    return {path: (copy / path).stat().st_ctime_ns for path in files_beneath(copy)}


def mirror_by_listing(subject):
    """--mirror along a listing of odd names."""
    stage, _ = subject
    copy = stage.room()
    command = (*MIRROR, "--no-parent", "--cut-dirs=1", stage.url("/odd/"))
    run(*command, cwd=copy)
    # The listings themselves.
    for listing in copy.rglob("index.html"):
        listing.unlink()
    # Each file holds its own path. What wget calls it is wget's affair: %41.txt becomes A.txt.
    found = {(copy / path).read_bytes().decode() for path in files_beneath(copy)}
    expect("what came", {path.partition("/")[0] for path in found}, in_listing())
    return f"{len(in_listing())} names"


CHECKS = (mirror, mirror_again, mirror_by_listing)
