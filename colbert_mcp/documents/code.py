"""Definitions in source code, found by tree-sitter with the tag queries that its grammars ship. Knows only text."""

import re
from collections import Counter
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import tree_sitter
import tree_sitter_c
import tree_sitter_cpp
import tree_sitter_go
import tree_sitter_java
import tree_sitter_javascript
import tree_sitter_python
import tree_sitter_ruby
import tree_sitter_rust
import tree_sitter_typescript

from colbert_mcp.types import Section

_JS_TAGS = tree_sitter_javascript.TAGS_QUERY
# TypeScript's own tags only add to JavaScript's, but its classes are named by a type_identifier.
_TS_TAGS = "\n".join(
    [
        tree_sitter_typescript.TAGS_QUERY,
        "(function_declaration name: (identifier) @name) @definition.function",
        "(class_declaration name: (type_identifier) @name) @definition.class",
        "(method_definition name: (property_identifier) @name) @definition.method",
        "(enum_declaration name: (identifier) @name) @definition.enum",
        "(type_alias_declaration name: (type_identifier) @name) @definition.type",
        "(variable_declarator name: (identifier) @name value: [(arrow_function) (function_expression)])"
        " @definition.function",
        "(internal_module name: (_) @name) @definition.module",
    ]
)
_C_TAGS = tree_sitter_c.TAGS_QUERY + "(union_specifier name: (type_identifier) @name body: (_)) @definition.class"
# Their own tags know no namespaces, no names of three parts, and no destructors or operators.
_CPP_TAGS = "\n".join(
    [
        tree_sitter_cpp.TAGS_QUERY,
        "(namespace_definition name: (_) @name) @definition.module",
        "(union_specifier name: (type_identifier) @name body: (_)) @definition.class",
        "(function_declarator declarator: [(destructor_name) (operator_name)] @name) @definition.method",
        "(function_declarator declarator: (qualified_identifier name: [(destructor_name) (operator_name)] @name))"
        " @definition.method",
        "(function_declarator declarator: (qualified_identifier name: (qualified_identifier name: (_) @name)))"
        " @definition.method",
    ]
)
_JAVA_TAGS = "\n".join(
    [
        tree_sitter_java.TAGS_QUERY,
        "(annotation_type_declaration name: (identifier) @name) @definition.interface",
        "(constructor_declaration name: (identifier) @name) @definition.method",
        "(enum_declaration name: (identifier) @name) @definition.enum",
        "(record_declaration name: (identifier) @name) @definition.class",
    ]
)
_GRAMMARS: dict[str, tuple[Callable[[], object], str]] = {
    "c": (tree_sitter_c.language, _C_TAGS),
    "cpp": (tree_sitter_cpp.language, _CPP_TAGS),
    "go": (tree_sitter_go.language, tree_sitter_go.TAGS_QUERY),
    "java": (tree_sitter_java.language, _JAVA_TAGS),
    "javascript": (tree_sitter_javascript.language, _JS_TAGS),
    "python": (tree_sitter_python.language, tree_sitter_python.TAGS_QUERY),
    "ruby": (tree_sitter_ruby.language, tree_sitter_ruby.TAGS_QUERY),
    "rust": (tree_sitter_rust.language, tree_sitter_rust.TAGS_QUERY),
    "tsx": (tree_sitter_typescript.language_tsx, _TS_TAGS),
    "typescript": (tree_sitter_typescript.language_typescript, _TS_TAGS),
}
# Code without a grammar here is still cut by blank lines and lines rather than by sentences.
_LANGUAGES = {
    **dict.fromkeys([".c", ".h"], "c"),
    **dict.fromkeys([".cc", ".cpp", ".cxx", ".hh", ".hpp"], "cpp"),
    **dict.fromkeys([".js", ".jsx", ".mjs", ".cjs"], "javascript"),
    **dict.fromkeys([".py", ".pyi"], "python"),
    **dict.fromkeys([".ts", ".mts", ".cts"], "typescript"),
    **dict.fromkeys([".sh", ".bash", ".zsh"], "shell"),
    **dict.fromkeys([".yaml", ".yml"], "yaml"),
    ".go": "go",
    ".java": "java",
    ".rb": "ruby",
    ".rs": "rust",
    ".tsx": "tsx",
    ".cs": "csharp",
    ".css": "css",
    ".ini": "ini",
    ".json": "json",
    ".kt": "kotlin",
    ".lua": "lua",
    ".php": "php",
    ".scala": "scala",
    ".sql": "sql",
    ".swift": "swift",
    ".toml": "toml",
}
_MOST_NESTED = 500  # open brackets
_MOST_IN_ERROR = 2000  # parts of an error
_MOST_COMMENTS = 100  # lines above a definition that are taken with it
_DOC_COMMENTS = re.compile(r"\((?:\w*comment)\)[*+?]?\s*@doc\s*\.?")
_DOC_DIRECTIVES = re.compile(r"\(#(?:strip|select-adjacent|set-adjacent)![^()]*\)")
# What a definition stands in that belongs to it: decorators, export, template and declaration heads.
_WRAPPERS = frozenset(
    {
        "decorated_definition",
        "export_statement",
        "lexical_declaration",
        "variable_declaration",
        "function_definition",
        "template_declaration",
        "type_declaration",
        "declaration",
        "pointer_declarator",
        "reference_declarator",
    }
)


def language_of(suffix: str) -> str | None:
    """The language of a file suffix such as ``.py``, or None where the file is not source code."""
    return _LANGUAGES.get(suffix)


def sections(language: str, text: str) -> list[Section]:
    """One section a definition, from its decorators and the comment right above it to its end; [] without a grammar."""
    if language not in _GRAMMARS:
        return []
    source = text.encode("utf-8", "surrogatepass")
    if _deepest(source) > _MOST_NESTED:
        return []  # no program is nested like this, and queries take quadratic time on it
    tree, query = _parse(language, source)
    if _has_wide_error(tree):
        return []  # likewise
    to_char = _char_offsets(source)
    found: dict[tuple[int, int], Section] = {}
    children: dict[int, Counter[str]] = {}
    for _, captures in tree_sitter.QueryCursor(query).matches(tree.root_node):
        node = next((nodes[0] for name, nodes in captures.items() if _defines(name)), None)
        if node is None or "name" not in captures:
            continue
        name = captures["name"][0]
        start, end = _extent(node, children)
        title = source[name.start_byte : name.end_byte].decode("utf-8", "replace")
        if not title:
            continue  # a name that the parser only supposes, in broken source
        body = to_char(name.end_byte)
        found.setdefault((start, end), Section(to_char(start), body, to_char(end), title))
    return _nested(sorted(found.values(), key=lambda section: (section.start, -section.end)))


def _deepest(source: bytes) -> int:
    """How many brackets are open at once, at most (those in strings and comments too)."""
    codes = np.frombuffer(source, np.uint8)
    steps = np.isin(codes, np.frombuffer(b"([{", np.uint8)).astype(np.int8)
    steps -= np.isin(codes, np.frombuffer(b")]}", np.uint8))
    return int(np.cumsum(steps, dtype=np.int32).max(initial=0))


def _has_wide_error(tree: tree_sitter.Tree) -> bool:
    """Whether what the parser could not read has very many parts side by side, as no program being edited has."""
    cursor = tree.walk()
    while True:
        node = cursor.node
        if node is not None and node.descendant_count > _MOST_IN_ERROR:
            if node.is_error and node.child_count > _MOST_IN_ERROR:
                return True
            if cursor.goto_first_child():
                continue
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                return False


def _defines(capture: str) -> bool:
    return (
        capture.startswith("definition.") and capture != "definition.constant"
    ) or capture == "reference.implementation"


@lru_cache(maxsize=len(_GRAMMARS))
def _grammar(language: str) -> tuple[tree_sitter.Parser, tree_sitter.Query]:
    pointer, tags = _GRAMMARS[language]
    grammar = tree_sitter.Language(pointer())
    # The queries also gather doc comments, in time that grows with their square; they are not used.
    return tree_sitter.Parser(grammar), tree_sitter.Query(grammar, _DOC_DIRECTIVES.sub("", _DOC_COMMENTS.sub("", tags)))


def _parse(language: str, source: bytes) -> tuple[tree_sitter.Tree, tree_sitter.Query]:
    parser, query = _grammar(language)
    return parser.parse(source), query


def _extent(node: tree_sitter.Node, children: dict[int, Counter[str]]) -> tuple[int, int]:
    """Bytes from the comment right above a definition to its end; ``children`` remembers what parents hold."""
    end = node.end_byte
    while node.parent is not None and node.parent.type in _WRAPPERS:
        parent = node.parent
        if parent.id not in children:
            children[parent.id] = Counter(child.type for child in parent.children)
        if children[parent.id][node.type] > 1:
            break  # a declaration of several belongs to none of them
        node = parent
        end = max(end, node.end_byte)
    above = node
    for _ in range(_MOST_COMMENTS):
        comment = _before(above)
        if comment is None or not _belongs(comment, above):
            break
        above = comment
    return above.start_byte, end


def _belongs(comment: tree_sitter.Node, below: tree_sitter.Node) -> bool:
    return (
        "comment" in comment.type
        and comment.end_point.row >= below.start_point.row - 1
        and comment.start_point.column <= below.start_point.column
    )


def _before(node: tree_sitter.Node) -> tree_sitter.Node | None:
    """What stands before a node; Python and Ruby put a comment above the first member outside of the body."""
    if node.prev_sibling is None and node.parent is not None and node.parent.type in ("block", "body_statement"):
        return node.parent.prev_sibling
    return node.prev_sibling


def _char_offsets(source: bytes) -> Callable[[int], int]:
    """From an offset in the parser's UTF-8 input to the character it stands at."""
    if source.isascii():
        return lambda offset: offset
    starts = (np.frombuffer(source, np.uint8) & 0xC0) != 0x80
    before: npt.NDArray[np.int64] = np.concatenate([[0], np.cumsum(starts)])
    return lambda offset: int(before[offset])


def _nested(found: list[Section]) -> list[Section]:
    """Drop what crosses the end of the definition around it (a broken file can make a parser say so)."""
    result: list[Section] = []
    open_ends: list[int] = []
    for section in found:
        while open_ends and open_ends[-1] <= section.start:
            open_ends.pop()
        if not open_ends or section.end <= open_ends[-1]:
            result.append(section)
            open_ends.append(section.end)
    return result
