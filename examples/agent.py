"""A minimal MCP client: start the server, index a folder, ask a question, print a quote with its citation.

    python examples/agent.py INDEX FOLDER QUESTION
"""

import sys
from pathlib import Path

import anyio
from mcp import Client, StdioServerParameters


async def main(index: Path, folder: Path, question: str) -> None:
    """Speak with ``colbert-mcp serve`` over standard input and output, as an assistant does."""
    arguments = ["-m", "colbert_mcp", "serve", "--index", str(index.resolve())]
    async with Client(StdioServerParameters(command=sys.executable, args=arguments)) as client:
        while True:
            indexed = await client.call_tool("index_path", {"path": str(folder.resolve())})
            if indexed.is_error:
                sys.exit(indexed.content[0].text)
            if indexed.structured_content["state"] != "running":
                break
        found = await client.call_tool("search", {"query": question, "limit": 1})
        if found.is_error:
            sys.exit(found.content[0].text)
        for result in found.structured_content["results"]:
            print(f"“{result['quote']}”")
            print(f"[{result['title']}]({result['url']}), {result['status']}, sha256 {result['sha256'][:12]}…")


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
