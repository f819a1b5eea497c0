# A worker. torch's wheels bring their own CUDA libraries, so the slim image is enough; the driver
# comes from the host by the NVIDIA container toolkit.
#     docker build -f deploy/worker.Dockerfile -t medgemma-explainer-worker:0.1.0 .
FROM python:3.11-slim-bookworm

ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    HF_HOME=/models \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin medgemma \
    && install --directory --owner=medgemma --group=medgemma /models

WORKDIR /src
# The large parts first: they change seldom.
COPY constraints.txt ./
RUN pip install --constraint constraints.txt torch transformers
COPY pyproject.toml README.md LICENSE ./
COPY client ./client
COPY tasks ./tasks
COPY worker ./worker
COPY cli ./cli
RUN pip install --constraint constraints.txt ".[worker]"
COPY deploy/ping_worker.py /opt/medgemma/

WORKDIR /home/medgemma
USER medgemma
VOLUME /models
CMD ["medgemma-explainer", "worker", "--gpus", "all"]
