# docker build -t thinkline . && docker run --rm -p 8000:8000 --env-file .env thinkline
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1
WORKDIR /app

# The packages first: a change of code does not install them again.
COPY requirements.txt ./
RUN pip install --no-cache-dir --disable-pip-version-check -r requirements.txt \
    && useradd --system --uid 10001 --no-create-home thinkline \
    && install -d -o thinkline data

COPY app.py config.py gunicorn.conf.py ./
COPY access access/
COPY core core/
COPY dispatch dispatch/
COPY docs docs/
COPY providers providers/
COPY schemas schemas/
COPY server server/
COPY storage storage/
COPY telemetry telemetry/
COPY usage usage/
COPY views views/
COPY web web/

# The number, not the name: Kubernetes can then see that it is not root.
USER 10001

# Others can reach this address, so it refuses to start until API_KEY is set (or ALLOW_ANONYMOUS=true).
ENV HOST=0.0.0.0
EXPOSE 8000

HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["python", "-c", \
    "import os, urllib.request as u; u.urlopen(f\"http://127.0.0.1:{os.environ.get('PORT') or 8000}/health\", timeout=2)"]

CMD ["gunicorn", "app:create_app()"]
