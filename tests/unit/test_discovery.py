import os
import sys
from pathlib import Path

import pytest

from colbert_mcp.documents import Discovery, Found, Unlisted, check_root, discover, is_within, path_matches
from colbert_mcp.documents.policy import credential_name
from colbert_mcp.errors import PathNotAllowedError
from colbert_mcp.types import FileStamp

IGNORED = "ignored by .gitignore or .ignore"
LINK = "a symbolic link"
CREDENTIAL = "a credential by its name"


def tree(root: Path, *names: str, **texts: str) -> Path:
    """Files with some text; ``a/`` is a folder, and ``texts`` are ignore files by their folder ("" is the root)."""
    for name in names:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("text")
    return root


def rules(folder: Path, *lines: str, name: str = ".gitignore") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("\n".join(lines) + "\n")


def walk(root: Path, **options: object) -> tuple[list[str], dict[str, str]]:
    """What is found below a root, in order, and what is skipped with its reason; ignore files themselves left out."""
    how = Discovery(**{"max_file_bytes": 1000, "hidden": False, **options})  # type: ignore[arg-type]
    found, skipped = [], {}
    for item in discover(os.fsencode(root), how):
        if isinstance(item, Found):
            found.append(os.fsdecode(item.path).removeprefix(f"{root}/"))
        else:
            item = item.skipped if isinstance(item, Unlisted) else item
            name = item.path.removeprefix(f"{root}/")
            assert name not in skipped
            skipped[name] = item.reason
    ignore_files = {name for name in skipped if name.endswith((".gitignore", ".ignore"))}
    return found, {name: reason for name, reason in skipped.items() if name not in ignore_files}


def test_files_come_in_the_order_of_their_names_folder_by_folder(tmp_path: Path) -> None:
    tree(tmp_path, "b.md", "a/z.md", "a/b/c.md", "c/d.md", "a.md", "Z.md")
    assert walk(tmp_path) == (["Z.md", "a.md", "b.md", "a/z.md", "a/b/c.md", "c/d.md"], {})


def test_a_found_file_has_the_stamp_of_the_file(tmp_path: Path) -> None:
    tree(tmp_path, "a.md")
    os.utime(tmp_path / "a.md", ns=(5, 1_700_000_000_000_000_001))
    assert list(discover(os.fsencode(tmp_path), Discovery(1000, False))) == [
        Found(os.fsencode(tmp_path / "a.md"), FileStamp(4, 1_700_000_000_000_000_001))
    ]


def test_every_entry_is_either_found_or_skipped_with_a_reason(tmp_path: Path) -> None:
    tree(tmp_path, "a.md", ".hidden", ".git/config", "build/x.md", "x.log", "id_rsa", "deep/.venv/y.md")
    (tmp_path / "empty.md").touch()
    (tmp_path / "large.md").write_text("x" * 1001)
    (tmp_path / "link.md").symlink_to("a.md")
    (tmp_path / "folder").symlink_to("deep")
    os.mkfifo(tmp_path / "pipe")
    rules(tmp_path, "build/", "*.log")
    found, skipped = walk(tmp_path)
    assert found == ["a.md"]
    assert skipped == {
        ".git/": "hidden",
        ".hidden": "hidden",
        "build/": IGNORED,
        "deep/.venv/": "hidden",
        "empty.md": "empty",
        "folder": LINK,
        "id_rsa": CREDENTIAL,
        "large.md": "larger than 1000 bytes ([documents] max_file_bytes)",
        "link.md": LINK,
        "pipe": "not a regular file",
        "x.log": IGNORED,
    }


def test_hidden_files_are_taken_on_request_but_never_the_git_folder(tmp_path: Path) -> None:
    tree(tmp_path, ".hidden.md", ".git/config", ".folder/a.md", "sub/.git/x", ".env")
    (tmp_path / "worktree").mkdir()
    (tmp_path / "worktree" / ".git").write_text("gitdir: elsewhere")
    found, skipped = walk(tmp_path, hidden=True)
    assert found == [".hidden.md", ".folder/a.md"]
    assert skipped == {".git/": "hidden", "sub/.git/": "hidden", "worktree/.git": "hidden", ".env": CREDENTIAL}


@pytest.mark.parametrize(("size", "taken"), [(999, True), (1000, True), (1001, False), (1, True), (0, False)])
def test_the_size_limit_includes_the_limit_and_excludes_nothing_at_all(tmp_path: Path, size: int, taken: bool) -> None:
    (tmp_path / "a.md").write_bytes(b"x" * size)
    assert bool(walk(tmp_path)[0]) == taken
    assert bool(walk(tmp_path / "a.md")[0]) == taken


def test_links_and_loops_are_not_followed(tmp_path: Path) -> None:
    tree(tmp_path, "a/b/c.md", "outside.md")
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "self").symlink_to("self")
    (tmp_path / "a" / "gone").symlink_to("nowhere")
    (tmp_path / "a" / "out.md").symlink_to("../outside.md")
    found, skipped = walk(tmp_path / "a")
    assert found == ["b/c.md"]
    assert skipped == {"b/up": LINK, "self": LINK, "gone": LINK, "out.md": LINK}


def test_a_deeper_ignore_file_wins(tmp_path: Path) -> None:
    tree(tmp_path, "a.log", "keep/a.log", "keep/deep/a.log", "other/a.log")
    rules(tmp_path, "*.log")
    rules(tmp_path / "keep", "!*.log")
    rules(tmp_path / "keep" / "deep", "a.*")
    assert walk(tmp_path) == (
        ["keep/a.log"],
        {"a.log": IGNORED, "other/a.log": IGNORED, "keep/deep/a.log": IGNORED},
    )


def test_a_later_line_wins_and_ignore_wins_over_gitignore(tmp_path: Path) -> None:
    tree(tmp_path, "a.log", "b.log", "c.log")
    rules(tmp_path, "*.log", "!b.log", "!a.log")
    rules(tmp_path, "a.log", "!c.log", name=".ignore")
    assert walk(tmp_path) == (["b.log", "c.log"], {"a.log": IGNORED})


def test_nothing_in_an_ignored_folder_can_be_taken_back(tmp_path: Path) -> None:
    tree(tmp_path, "build/keep.md", "src/build/keep.md")
    rules(tmp_path, "build/", "!build/keep.md")
    rules(tmp_path / "build", "!*")
    assert walk(tmp_path) == ([], {"build/": IGNORED, "src/build/": IGNORED})


def test_a_star_and_exceptions_take_only_the_exceptions(tmp_path: Path) -> None:
    tree(tmp_path, "a.md", "a.txt", "sub/b.md", "sub/b.txt", "sub/deep/c.md")
    rules(tmp_path, "*", "!*/", "!*.md")
    found, skipped = walk(tmp_path)
    assert found == ["a.md", "sub/b.md", "sub/deep/c.md"]
    assert skipped == {"a.txt": IGNORED, "sub/b.txt": IGNORED}


@pytest.mark.parametrize("pattern", ["data/*", "/data/*", "data/**", "/data/**", "data/**/*"])
def test_an_exception_to_all_that_a_folder_holds_is_taken(tmp_path: Path, pattern: str) -> None:
    tree(tmp_path, "data/keep.md", "data/other.md", "data/sub/keep.md")
    rules(tmp_path, pattern, "!data/keep.md")
    assert walk(tmp_path)[0] == ["data/keep.md"]


def test_an_exception_for_a_folder_does_not_reach_what_another_rule_ignores_in_it(tmp_path: Path) -> None:
    tree(tmp_path, "data/x/a.md", "data/b.md")
    rules(tmp_path, "data/*", "!data")
    assert walk(tmp_path) == ([], {"data/b.md": IGNORED, "data/x/": IGNORED})


def test_a_pattern_with_a_slash_is_anchored_at_its_own_folder(tmp_path: Path) -> None:
    tree(tmp_path, "a.md", "sub/a.md", "sub/sub/a.md", "sub/b.md", "sub/deep/b.md")
    rules(tmp_path, "/a.md", "sub/b.md")
    rules(tmp_path / "sub", "/sub/")
    assert walk(tmp_path) == (
        ["sub/a.md", "sub/deep/b.md"],
        {"a.md": IGNORED, "sub/b.md": IGNORED, "sub/sub/": IGNORED},
    )


def test_a_pattern_that_ends_with_a_slash_is_for_folders_only(tmp_path: Path) -> None:
    tree(tmp_path, "out", "sub/out/a.md")
    rules(tmp_path, "out/")
    assert walk(tmp_path) == (["out"], {"sub/out/": IGNORED})


def test_the_rules_of_the_work_tree_above_the_root_hold(tmp_path: Path) -> None:
    tree(tmp_path, "repo/.git/", "repo/docs/deep/a.log", "repo/docs/deep/b.md", "repo/docs/deep/c.md", "repo/docs/x.md")
    rules(tmp_path, "*.md")  # above the work tree: not in force
    rules(tmp_path / "repo", "*.log", "/docs/deep/c.md")
    rules(tmp_path / "repo" / "docs", "b.md")
    assert walk(tmp_path / "repo" / "docs" / "deep") == ([], {"a.log": IGNORED, "b.md": IGNORED, "c.md": IGNORED})
    assert walk(tmp_path / "repo" / "docs")[0] == ["x.md"]


def test_of_the_rules_above_the_root_the_nearer_win(tmp_path: Path) -> None:
    tree(tmp_path, ".git/", "docs/deep/a.log", "docs/deep/b.txt")
    rules(tmp_path, "*.log", "!*.txt")
    rules(tmp_path / "docs", "!*.log", "*.txt")
    assert walk(tmp_path / "docs" / "deep") == (["a.log"], {"b.txt": IGNORED})


def test_a_work_tree_inside_another_is_ruled_by_its_own_files_alone(tmp_path: Path) -> None:
    tree(tmp_path, "repo/.git/", "repo/inner/.git/", "repo/inner/docs/a.log")
    rules(tmp_path / "repo", "*.log")
    assert walk(tmp_path / "repo" / "inner" / "docs")[0] == ["a.log"]


def test_rules_above_a_root_outside_of_any_work_tree_do_not_hold(tmp_path: Path) -> None:
    tree(tmp_path, "plain/docs/a.log")
    rules(tmp_path / "plain", "*.log")
    assert walk(tmp_path / "plain" / "docs")[0] == ["a.log"]
    assert walk(tmp_path / "plain")[1] == {"docs/a.log": IGNORED}


def test_an_ignore_file_that_is_a_link_or_a_pipe_is_not_read(tmp_path: Path) -> None:
    tree(tmp_path, "a/x.md", "b/x.md", "all")
    (tmp_path / "all").write_text("*\n")
    (tmp_path / "a" / ".gitignore").symlink_to("../all")
    os.mkfifo(tmp_path / "b" / ".gitignore")
    assert walk(tmp_path)[0] == ["all", "a/x.md", "b/x.md"]


def test_include_takes_only_what_it_names(tmp_path: Path) -> None:
    tree(tmp_path, "a.md", "a.txt", "sub/b.md", "docs/c.txt", "docs/deep/d.txt")
    reason = "not included"
    assert walk(tmp_path, include=["*.md", "docs/"]) == (
        ["a.md", "docs/c.txt", "docs/deep/d.txt", "sub/b.md"],
        {"a.txt": reason},
    )
    assert walk(tmp_path, include=["/*.md"])[0] == ["a.md"]
    assert walk(tmp_path, include=["**/*.txt", "!d.*"])[0] == ["a.txt", "docs/c.txt"]


def test_exclude_wins_over_include_and_shuts_folders(tmp_path: Path) -> None:
    tree(tmp_path, "a.md", "b.md", "sub/c.md", "sub/deep/d.md")
    assert walk(tmp_path, include=["*.md"], exclude=["b.*", "sub/deep/"]) == (
        ["a.md", "sub/c.md"],
        {"b.md": "excluded", "sub/deep/": "excluded"},
    )


def test_include_does_not_take_what_is_ignored_hidden_or_a_credential(tmp_path: Path) -> None:
    tree(tmp_path, "a.log", ".b.log", "key.pem")
    rules(tmp_path, "a.log")
    assert walk(tmp_path, include=["*"]) == ([], {"a.log": IGNORED, ".b.log": "hidden", "key.pem": CREDENTIAL})


def test_what_was_removed_stays_out(tmp_path: Path) -> None:
    tree(tmp_path, "a.md", "b.md", "sub/c.md", "sub-b/d.md")
    removed = frozenset({os.fsencode(tmp_path / "a.md"), os.fsencode(tmp_path / "sub")})
    reason = "removed with remove_path"
    assert walk(tmp_path, removed=removed) == (["b.md", "sub-b/d.md"], {"a.md": reason, "sub/": reason})


@pytest.mark.parametrize("name", ["a.log", ".hidden.md"])
def test_a_root_that_is_a_file_is_taken_even_if_ignored_or_hidden(tmp_path: Path, name: str) -> None:
    tree(tmp_path, ".git/", name)
    rules(tmp_path, "*")
    assert walk(tmp_path / name, include=["*.txt"])[0] == [str(tmp_path / name)]


def test_a_root_that_is_a_credential_a_pipe_or_missing_is_skipped(tmp_path: Path) -> None:
    tree(tmp_path, "server.key")
    os.mkfifo(tmp_path / "pipe")
    assert walk(tmp_path / "server.key")[1] == {str(tmp_path / "server.key"): CREDENTIAL}
    assert walk(tmp_path / "pipe")[1] == {str(tmp_path / "pipe"): "not a regular file"}
    assert walk(tmp_path / "none")[1] == {str(tmp_path / "none"): "no such file or directory"}


def test_a_folder_without_permission_is_skipped_with_the_reason(tmp_path: Path) -> None:
    tree(tmp_path, "shut/a.md")
    folder = os.fsencode(tmp_path / "shut")
    inner = Discovery(1000, False)
    (tmp_path / "shut").chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may read everything
    try:
        (item,) = discover(folder, inner)
    finally:
        os.seteuid(user)
        (tmp_path / "shut").chmod(0o700)
    assert isinstance(item, Unlisted)
    assert (item.path, item.skipped.reason) == (folder, "permission denied")


@pytest.mark.skipif(sys.platform == "darwin", reason="file names are UTF-8 here")
def test_names_that_are_not_utf8_or_hold_special_characters_are_found(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    names = [b" lead", b"a b#c.md", b"caf\xe9.md", b"new\nline.md", b"quo\"te'.md", "日本.md".encode()]
    for name in names:
        Path(os.fsdecode(root + b"/" + name)).write_text("text")
    rules(tmp_path, "*.log")
    found = [item.path for item in discover(root, Discovery(1000, False)) if isinstance(item, Found)]
    assert found == [root + b"/" + name for name in sorted(names)]


@pytest.mark.parametrize(
    "path",
    [
        "/a/.env",
        "/a/.env.local",
        "/a/prod.env",
        "/a/.ENV",
        "/a/.netrc",
        "/a/netrc",
        "/a/_netrc",
        "/etc/shadow",
        "/etc/shadow-",
        "/etc/gshadow",
        "/a/.htpasswd",
        "/a/htpasswd",
        "/a/id_rsa",
        "/a/id_ed25519",
        "/a/server.pem",
        "/a/SERVER.KEY",
        "/a/credentials",
        "/a/credentials.json",
        "/a/client_secret_1.json",
        "/a/service-account-x.json",
        "/a/secrets.yaml",
        "/a/secrets.yml",
        "/home/u/.ssh/known_hosts",
        "/home/u/.aws/config",
        "/home/u/.gnupg/deep/er/x.txt",
    ],
)
def test_a_credential_is_known_by_its_name_or_folder(path: str) -> None:
    assert credential_name(path.encode())


@pytest.mark.parametrize(
    "path",
    [
        "/a/.env.example",
        "/a/.env.sample",
        "/a/.ENV.template",
        "/a/environment.md",
        "/a/id_rsa.md",
        "/a/credentials.md",
        "/a/credentials/readme.md",
        "/a/keys.txt",
        "/a/ssh/config",
        "/a/secrets.md",
        "/a/keynote",
        "/a/shadow.md",
        "/a/htpasswd.md",
        "/a/shadow/notes.md",
    ],
)
def test_a_file_that_is_only_called_similarly_is_no_credential(path: str) -> None:
    assert not credential_name(path.encode())


@pytest.mark.parametrize(
    ("path", "root", "expected"),
    [
        (b"/root", b"/root", True),
        (b"/root/a/b", b"/root", True),
        (b"/root/a", b"/root/", True),
        (b"/root-evil", b"/root", False),
        (b"/root-evil/a", b"/root", False),
        (b"/roo", b"/root", False),
        (b"/", b"/root", False),
        (b"/anything", b"/", True),
        (b"/", b"/", True),
    ],
)
def test_only_what_lies_below_a_root_is_within_it(path: bytes, root: bytes, expected: bool) -> None:
    assert is_within(path, root) is expected


def test_with_allowed_roots_only_what_lies_in_one_may_be_indexed() -> None:
    allowed = [b"/data/docs", b"/srv"]
    for path in (b"/data/docs", b"/data/docs/a.md", b"/srv/x"):
        check_root(path, allowed)
    for path in (b"/data", b"/data/docs-evil", b"/", b"/etc/passwd"):
        with pytest.raises(PathNotAllowedError, match="outside the allowed roots"):
            check_root(path, allowed)


def test_without_allowed_roots_the_whole_system_and_the_home_are_too_wide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "link").symlink_to("home")
    monkeypatch.setenv("HOME", str(tmp_path / "link"))
    home = os.fsencode(os.path.realpath(tmp_path / "home"))
    for path in (b"/", home):
        with pytest.raises(PathNotAllowedError, match="too wide"):
            check_root(path, [])
    check_root(home + b"/docs", [])
    check_root(home, [home])


def test_a_root_that_is_a_credential_is_refused_wherever_it_is() -> None:
    for allowed in ([], [b"/data"]):
        with pytest.raises(PathNotAllowedError, match="credential"):
            check_root(b"/data/.env", allowed)
        with pytest.raises(PathNotAllowedError, match="credential"):
            check_root(b"/data/.ssh/config", allowed)


def test_a_folder_may_be_called_like_a_file_of_credentials(tmp_path: Path) -> None:
    for name in ("shadow", ".ssh"):
        (tmp_path / name).mkdir()
    check_root(os.fsencode(tmp_path / "shadow"), [])
    with pytest.raises(PathNotAllowedError, match="credential"):
        check_root(os.fsencode(tmp_path / ".ssh"), [])


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.md", True),
        ("*.txt", False),
        ("docs/", True),
        ("docs", True),
        ("docs/guide.md", True),
        ("guide.md", True),
        ("guide", False),
        ("deep/guide.md", False),
        ("**/guide.md", True),
        ("/", True),
        ("/data/repo", True),
        ("/data/repo/", True),
        ("/data/repo/docs/guide.md", True),
        ("/data/repo/docs/guide.md/", True),
        ("/data/**/guide.md", True),
        ("/data/*.md", False),
        ("/data/rep", False),
        ("/repo", False),
        ("/docs", False),
        ("!*.md", False),
    ],
)
def test_a_pattern_selects_by_absolute_path_or_below_a_root(pattern: str, expected: bool) -> None:
    assert path_matches([pattern], b"/data/repo/docs/guide.md", [b"/elsewhere", b"/data/repo"]) is expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("repo", True),
        ("repo/", True),
        ("repo/**", True),
        ("repo/docs/**", True),
        ("repo/docs/guide.md", True),
        ("re*/docs", True),
        ("**/repo/**", True),
        ("**/repo/docs/*.md", True),
        ("repo/*.md", False),
        ("repo/guide.md", False),
        ("other/**", False),
        ("data/repo/**", False),
        ("*/*/*.md", False),
        ("!repo", False),
    ],
)
def test_a_pattern_may_begin_with_the_name_of_a_root(pattern: str, expected: bool) -> None:
    assert path_matches([pattern], b"/data/repo/docs/guide.md", [b"/elsewhere", b"/data/repo"]) is expected


def test_a_pattern_selects_if_any_root_that_holds_the_path_says_so() -> None:
    path, roots = b"/data/repo/docs/guide.md", [b"/data/repo", b"/data/repo/docs"]
    assert path_matches(["repo/docs/*.md"], path, roots)
    assert not path_matches(["repo/docs/*.md"], path, roots[1:])
    assert not path_matches(["*.md"], path, [b"/data/rep"])
    assert not path_matches([], path, roots)
    assert path_matches(["*.txt", "*.md"], path, roots)


def test_a_pattern_selects_a_root_that_is_a_single_file_by_its_name() -> None:
    assert path_matches(["guide.*"], b"/data/guide.md", [b"/data/guide.md"])
    assert not path_matches(["data/guide.md"], b"/data/guide.md", [b"/data/guide.md"])


def test_an_absolute_pattern_selects_a_file_whose_name_reads_like_a_pattern() -> None:
    path = b"/data/[draft] a*b?.md"
    assert path_matches(["/data/[draft] a*b?.md"], path, [b"/data"])
    assert path_matches(["/data/"], path, [])
