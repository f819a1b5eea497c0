# A worker. torch's wheels bring their own CUDA libraries, so the slim image is enough; the driver
# comes from the host by the NVIDIA container toolkit.
#     docker build -f deploy/worker.Dockerfile -t medgemma-explainer-worker:0.1.0 .
#     docker build --build-arg EXTRAS=worker,otel ...           with OpenTelemetry
# It writes below /tmp and /models alone.
FROM python:3.11-slim-bookworm
ARG EXTRAS=worker

ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    HF_HOME=/models \
    MEDGEMMA_METRICS_PORT=9463 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

RUN useradd --uid 10001 --user-group --create-home --shell /usr/sbin/nologin medgemma \
    && install --directory --owner=medgemma --group=medgemma /models

WORKDIR /src
# The large parts first: they change seldom.
COPY constraints.txt ./
RUN pip install --constraint constraints.txt torch transformers
COPY pyproject.toml README.md LICENSE ./
COPY client ./client
COPY tasks ./tasks
COPY worker ./worker
COPY web ./web
COPY cli ./cli
RUN pip install --constraint constraints.txt ".[${EXTRAS}]"

WORKDIR /home/medgemma
# By number, so that a kubelet can see that it is not root.
USER 10001:10001
# Where CUDA, Triton and torch keep what they compile, on a root that may be read only.
ENV HOME=/tmp
VOLUME /models
# Ready: the model is loaded and its worker takes jobs. The first start downloads the model.
HEALTHCHECK --interval=30s --timeout=10s --retries=3 --start-period=30m \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:9463/readyz', timeout=5)"]
CMD ["medgemma-explainer", "worker", "--gpus", "all"]
