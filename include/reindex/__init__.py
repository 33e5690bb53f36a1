"""Reindex keeps a Milvus collection true to a bucket of documents."""
