"""Unpack the Milvus server from its wheel into a folder, with its configuration: `milvus_files.py FOLDER`."""

from __future__ import annotations

import sys

import milvus

config = milvus.MilvusServerConfig(data_dir=sys.argv[1])
config.resolve()
milvus._initialize_data_files(sys.argv[1])
