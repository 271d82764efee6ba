FROM python:3.11-slim AS packages
WORKDIR /app
COPY requirements/production.txt requirements/
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir --no-deps -r requirements/production.txt

FROM python:3.11-slim
# By number, so that an orchestrator can see that it is not root.
RUN useradd --uid 10001 --home-dir /var/lib/gyoza --create-home gyoza \
    && install -d -o 10001 -g 10001 /var/lib/gyoza/storage
WORKDIR /app
COPY --from=packages /venv /venv
COPY CHANGELOG.md manage.py ./
COPY gyoza_site gyoza_site
COPY templates templates
COPY examples examples
COPY apps apps
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    GYOZA_HOME=/var/lib/gyoza GYOZA_HOST=0.0.0.0 GYOZA_LOG_FORMAT=json
USER 10001
VOLUME /var/lib/gyoza
EXPOSE 5555
CMD ["python", "manage.py", "serve"]
