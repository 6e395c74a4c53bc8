"""What may be indexed at all: which roots, and never a credential. Knows nothing of formats."""

import fnmatch
import os
import re
from collections.abc import Sequence
from pathlib import Path

from colbert_mcp.documents.paths import display_path
from colbert_mcp.errors import PathNotAllowedError

_KEYS = ("rsa", "dsa", "ecdsa", "ed25519")
CREDENTIAL_NAMES = (
    ".env",
    ".env.*",
    "*.env",
    *(f"{start}netrc" for start in ("", ".", "_")),
    *(f"{name}{rest}" for name in ("shadow", "gshadow") for rest in ("", "-")),
    *(f"{start}{name}" for name in ("htpasswd", "htdigest") for start in ("", ".")),
    "master.passwd",
    "opasswd",
    ".pgpass",
    ".npmrc",
    ".pypirc",
    ".git-credentials",
    ".dockercfg",
    ".envrc",
    *(f"id_{kind}{rest}" for kind in _KEYS for rest in ("", "_*", "-*", "~", ".bak", ".old", ".orig")),
    *(f"*.{suffix}{rest}" for suffix in ("pem", "key") for rest in ("", "~", ".bak", ".old", ".orig")),
    "*.ppk",
    "*.p12",
    "*.pfx",
    "*.jks",
    "*.keystore",
    "*.kdbx",
    "*.ovpn",
    "credentials",
    "credentials.csv",
    "credentials.json",
    "credentials.toml",
    "client_secret*.json",
    "service-account*.json",
    "secrets.y*ml",
    "secrets.toml",
    "secrets.json",
    "kubeconfig",
    "*.tfstate",
)
CREDENTIAL_FOLDERS = frozenset({".ssh", ".aws", ".gnupg", ".kube", ".docker", ".password-store"})
# The same patterns by their shape: every file of a tree is held against them.
_CREDENTIALS = frozenset(pattern for pattern in CREDENTIAL_NAMES if "*" not in pattern)
_CREDENTIAL_ENDS = tuple(p[1:] for p in CREDENTIAL_NAMES if p.startswith("*") and "*" not in p[1:])
_CREDENTIAL_STARTS = tuple(p[:-1] for p in CREDENTIAL_NAMES if p.endswith("*") and "*" not in p[:-1])
_CREDENTIAL_OTHERS = re.compile("|".join(fnmatch.translate(p) for p in CREDENTIAL_NAMES if "*" in p[1:-1]))
_HARMLESS = frozenset({".env.example", ".env.sample", ".env.template"})
_HARMLESS_END = ".pub"
_CREDENTIAL_CONTENT = re.compile(
    # The key may follow headers, escaped line ends, or quoting and comment marks at the start of its lines.
    rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----(?:\s+[A-Za-z0-9+/=]{16}|[\s\S]{0,400}?[A-Za-z0-9+/]{40})"
    rb"|---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----"
    rb"|\bPuTTY-User-Key-File-\d: "
    rb"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    rb"|\bgh[pousr]_[A-Za-z0-9]{36}\b"
    rb"|\bgithub_pat_[A-Za-z0-9_]{60,}"
    rb"|\bglpat-[A-Za-z0-9_-]{20}"
    rb"|\bxox[abprs]-[A-Za-z0-9-]{20,}"
    rb"|\bsk-(?:ant|proj)-[A-Za-z0-9_-]{32,}"
    rb"|\b[rs]k_live_[A-Za-z0-9]{20,}"
    rb"|\bnpm_[A-Za-z0-9]{36}\b"
    rb"|\bhf_[A-Za-z0-9]{34}\b"
    rb"|\bAIza[0-9A-Za-z_-]{35}\b"
)
# ``name:hash`` as in shadow and htpasswd files, other fields behind it or not; ``name:*`` is a record without one.
_PASSWORD_HASH = re.compile(rb":!{0,2}(?:\$[a-z0-9-]{1,12}\$|\{S?SHA\d*\})[^\s:]{20,}")
_PASSWORD_RECORD = re.compile(rb"[^\s:]+:[^\s:]*(?::|\Z)")


def credential_name(path: bytes) -> bool:
    """Whether the name, or that of a folder it is in, is one that holds credentials."""
    *folders, name = display_path(path).lower().split("/")
    return credential_file(name, in_credentials=not CREDENTIAL_FOLDERS.isdisjoint(folders))


def credential_folder(path: bytes) -> bool:
    """Whether a folder, or one that it is in, is one that holds credentials by its name."""
    return not CREDENTIAL_FOLDERS.isdisjoint(display_path(path).lower().split("/"))


def credential_file(name: str, *, in_credentials: bool) -> bool:
    """Whether a file, by its name in lower case, holds credentials; ``in_credentials``: its folder does."""
    if name.endswith(_HARMLESS_END) or name in _HARMLESS:
        return False
    return (
        in_credentials
        or name in _CREDENTIALS
        or name.endswith(_CREDENTIAL_ENDS)
        or name.startswith(_CREDENTIAL_STARTS)
        or name in CREDENTIAL_FOLDERS
        or _CREDENTIAL_OTHERS.match(name) is not None
    )


def credential_content(raw: bytes) -> bool:
    """Whether the bytes hold a private key or a token of a well-known form, or are a file of password hashes."""
    return _CREDENTIAL_CONTENT.search(raw) is not None or _is_password_file(raw)


def _is_password_file(raw: bytes) -> bool:
    """Whether most lines are records of passwords, and one has a hash; a text that shows such a record is none."""
    if _PASSWORD_HASH.search(raw) is None:
        return False
    lines = [line for line in raw.splitlines() if line.strip() and not line.startswith(b"#")]
    records = [line for line in lines if _PASSWORD_RECORD.match(line)]
    return 2 * len(records) > len(lines) and any(_PASSWORD_HASH.search(line) for line in records)


def is_within(path: bytes, root: bytes) -> bool:
    """Whether the real path is the root or lies below it (``/root-evil`` does not lie below ``/root``)."""
    return path == root or path.startswith(root.rstrip(b"/") + b"/")


def in_scope(path: bytes, scope: Sequence[bytes]) -> bool:
    """Whether a real path lies in any of the roots of a scope; an empty scope holds everything."""
    return not scope or any(is_within(path, root) for root in scope)


def check_root(path: bytes, allowed: Sequence[bytes]) -> None:
    """Raise PathNotAllowedError unless the real path may be given to ``index_path``.

    With allowed roots, only what lies in one of them; without, anything but the file system's root and the user's home
    directory itself, which would sweep up everything.
    """
    shown = display_path(path)
    if allowed:
        if not any(is_within(path, root) for root in allowed):
            names = ", ".join(display_path(root) for root in allowed)
            raise PathNotAllowedError(f"{shown} is outside the allowed roots ({names}); add it to [index] roots.")
    elif path in (b"/", os.fsencode(os.path.realpath(Path.home()))):
        raise PathNotAllowedError(f"{shown} is too wide to index as a whole; name a folder inside it.")
    # A folder may be called like a file of credentials: ``shadow``.
    if credential_folder(path) if os.path.isdir(path) else credential_name(path):
        raise PathNotAllowedError(f"{shown} looks like a credential by its name and is never indexed.")
