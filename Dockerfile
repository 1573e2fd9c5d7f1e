# WhisperQ's app and its workers on a CPU, with the embedded weights and the shipped results.
# How to build and run it, and what was checked: docs/operating.md.

# A tag moves when its image is rebuilt: add the digest of the one that you checked.
FROM python:3.11.14-slim-bookworm

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONPATH=/app

RUN groupadd --gid 10001 whisperq \
    && useradd --uid 10001 --gid whisperq --create-home --shell /usr/sbin/nologin whisperq

WORKDIR /app

# PyTorch's own index of CPU builds, for an image without CUDA libraries: see pytorch.org.
ARG PIP_EXTRA_INDEX_URL=""

COPY requirements.txt requirements-lock.txt ./
# The lock first: it checks the sha256 of every package but PyTorch.
RUN pip install --no-deps -r requirements-lock.txt \
    && pip install -r requirements.txt \
    && pip check

COPY . .
# The only folders that the app may write to. A new volume starts with the shipped results.
RUN mkdir -p keys && chown -R whisperq:whisperq cache keys
VOLUME ["/app/cache"]

USER 10001

# On localhost inside the container only (.streamlit/config.toml), unless STREAMLIT_SERVER_ADDRESS
# says otherwise.
EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://localhost:8501/_stcore/health', timeout=4)"]
CMD ["streamlit", "run", "app.py", "--server.headless", "true"]
