# make image && docker run --rm -p 8000:8000 --env-file .env thinkline
# docs/operate/docker.md has the image without OCI's SDK, and how to run it on a file system that is read-only.
ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS packages
# "aws redis postgres otel" makes an image without OCI's SDK, which is most of it.
ARG EXTRAS="oci aws redis postgres otel"
WORKDIR /build
COPY deploy/requirements deploy/requirements/
# The versions are locked, with the hashes of their files; nothing is compiled, and pip does not come along.
RUN python -m venv --without-pip /opt/packages \
    && for name in base ${EXTRAS}; do echo "-r deploy/requirements/${name}.txt"; done > wanted.txt \
    && pip --python /opt/packages/bin/python install --no-cache-dir --disable-pip-version-check \
        --require-hashes --only-binary :all: -r wanted.txt

# What the image holds, with licences: a list in CycloneDX's format.
FROM packages AS sbom
RUN python -m venv /opt/sbom \
    && /opt/sbom/bin/pip install --no-cache-dir --disable-pip-version-check \
        --require-hashes --only-binary :all: -r deploy/requirements/sbom.txt
COPY pyproject.toml LICENSE ./
RUN /opt/sbom/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
        --output-format JSON --output-file /build/sbom.cdx.json /opt/packages/bin/python

FROM ${PYTHON}
ARG VERSION=""
ARG REVISION=""
LABEL org.opencontainers.image.title="Thinkline" \
      org.opencontainers.image.description="One OpenAI-compatible endpoint, made for voice agents." \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.base.name="docker.io/library/python:3.11-slim-bookworm"

# glibc's cache of freed memory, of each of up to 1280 threads, is not returned while the thread lives. It gains nothing.
ENV PATH=/opt/packages/bin:$PATH \
    GLIBC_TUNABLES=glibc.malloc.tcache_count=0 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TMPDIR=/dev/shm
WORKDIR /app
# The one folder that it writes to (DATA_DIR).
RUN useradd --system --uid 10001 --no-create-home --home-dir /app thinkline \
    && install -d -o thinkline data

COPY --from=packages /opt/packages /opt/packages/
COPY --from=sbom /build/sbom.cdx.json ./
COPY app.py config.py doctor.py gunicorn.conf.py test_streaming.py pyproject.toml LICENSE README.md CHANGELOG.md SECURITY.md ./
COPY access access/
COPY core core/
COPY dispatch dispatch/
COPY docs docs/
COPY providers providers/
COPY schemas schemas/
COPY server server/
COPY storage storage/
COPY telemetry telemetry/
COPY tools/__init__.py tools/keys.py tools/
COPY tools/doctor tools/doctor/
COPY tools/streamcheck tools/streamcheck/
COPY usage usage/
COPY views views/
COPY voice voice/
COPY web web/
RUN python -m compileall -q .

# The number, not the name: Kubernetes can then see that it is not root.
USER 10001

# Others can reach this address, so it refuses to start until API_KEY is set (or ALLOW_ANONYMOUS=true).
ENV HOST=0.0.0.0
EXPOSE 8000

HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["python", "-c", \
    "import os, urllib.request as u; u.urlopen(f\"http://127.0.0.1:{os.environ.get('PORT') or 8000}/health\", timeout=2)"]

CMD ["gunicorn", "app:create_app()"]
