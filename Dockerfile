# GoQueue in one image. Its commands are the roles: `api`, `worker`, `scheduler`, `migrate`.
# docs/containers.md says how to run it, and how to add job types of your own.

ARG PYTHON_IMAGE=python:3.13.9-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
# Without pip of its own: this folder is what the final image gets.
RUN python -m venv --without-pip /opt/goqueue
# What GoQueue and its extras `oidc` and `tracing` need, pinned by hashes, in a layer that only this file changes.
COPY requirements.image.lock ./
RUN pip --python /opt/goqueue/bin/python install --require-hashes --requirement requirements.image.lock
COPY pyproject.toml README.md LICENSE ./
COPY goqueue goqueue
RUN pip --python /opt/goqueue/bin/python install --no-deps .

FROM ${PYTHON_IMAGE}
# tini is process 1: it passes SIGTERM on, and buries the processes whose parents are gone.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 goqueue \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin goqueue
COPY --from=build /opt/goqueue /opt/goqueue
COPY deploy/container/healthcheck.py /opt/goqueue/healthcheck.py
# /srv is where job types of your own go: the folder in which GoQueue runs is on Python's path.
WORKDIR /srv
ENV PATH=/opt/goqueue/bin:$PATH \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    GOQUEUE_API_HOST=0.0.0.0 \
    GOQUEUE_METRICS_HOST=0.0.0.0 \
    GOQUEUE_LOG_FORMAT=json
USER 10001:10001
EXPOSE 8000 9191 9192
STOPSIGNAL SIGTERM
# Of the API; worker and scheduler have theirs on 9191 and 9192.
HEALTHCHECK --interval=10s --timeout=10s --start-period=120s --retries=3 \
    CMD ["python", "-IS", "/opt/goqueue/healthcheck.py", "8000", "/health/live"]
ENTRYPOINT ["tini", "--", "goqueue"]
CMD ["api"]
