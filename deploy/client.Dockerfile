# A client: no torch.
#     docker build -f deploy/client.Dockerfile -t medgemma-explainer-client:0.1.0 .
FROM python:3.11-slim-bookworm

ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin medgemma

WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY client ./client
COPY tasks ./tasks
COPY worker ./worker
COPY cli ./cli
RUN pip install --constraint constraints.txt ".[dicom]"
COPY deploy/init_store.py /opt/medgemma/

WORKDIR /home/medgemma
USER medgemma
CMD ["medgemma-explainer", "--help"]
