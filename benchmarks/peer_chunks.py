"""Cut texts as LlamaIndex's `SentenceSplitter` does, with one model's tokenizer: `chunk_recall.py` starts it.

Reads what it is to do as JSON from standard input, in the environment of `requirements-llamaindex.txt`, and prints the
chunks as a JSON array.
"""

from __future__ import annotations

import json
import sys

from llama_index.core import Document
from llama_index.core.node_parser import SentenceSplitter
from tokenizers import Tokenizer


def main() -> None:
    asked = json.load(sys.stdin)
    tokenizer = Tokenizer.from_file(asked["tokenizer"])
    tokenizer.no_truncation()
    tokenizer.no_padding()
    splitter = SentenceSplitter(
        chunk_size=asked["max_tokens"],
        chunk_overlap=asked["overlap_tokens"],
        tokenizer=lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
    )
    nodes = splitter.get_nodes_from_documents([Document(text=text) for text in asked["texts"]])
    print(json.dumps([node.get_content() for node in nodes]))


if __name__ == "__main__":
    main()
