# Everything that needs no GPU and no torch: client, gateway, exporter, upkeep.
#     docker build -f deploy/client.Dockerfile -t medgemma-explainer-client:0.1.0 .
#     docker build --build-arg EXTRAS=dicom,web,otel ...        with OpenTelemetry
# What it runs is said by who runs it, and so is its health check. It writes below /tmp alone, and
# keys of the gateway below /keys.
FROM python:3.11-slim-bookworm
ARG EXTRAS=dicom,web

ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

RUN useradd --uid 10001 --user-group --create-home --shell /usr/sbin/nologin medgemma \
    && install --directory --owner=medgemma --group=medgemma --mode=0700 /keys

WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY client ./client
COPY tasks ./tasks
COPY worker ./worker
COPY web ./web
COPY cli ./cli
RUN pip install --constraint constraints.txt ".[${EXTRAS}]"
COPY deploy/init_store.py /opt/medgemma/

WORKDIR /home/medgemma
# By number, so that a kubelet can see that it is not root.
USER 10001:10001
ENV HOME=/tmp
CMD ["medgemma-explainer", "--help"]
