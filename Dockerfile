# One image for the API and all workers: `docker run imago api`, `… worker ocr`, `… migrate`; the target `operator` is the
# same with another command. Build it with `make image`, or `make image ARGS="--target operator --tag imago-operator"`. The base is an argument, so that it can be pinned to a digest or come from a mirror.
ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
RUN python -m venv /opt/imago
COPY requirements/runtime.lock requirements/build.lock requirements/
RUN /opt/imago/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements/runtime.lock \
    && python -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements/build.lock
COPY pyproject.toml README.md LICENSE ./
COPY services services
COPY operator operator
RUN /opt/build/bin/python -m hatchling build -t wheel -d /dist \
    && /opt/imago/bin/pip install --no-cache-dir --no-deps /dist/*.whl \
    && /opt/imago/bin/python -m imago.ai.model --dir /opt/models

FROM ${BASE} AS runtime
LABEL org.opencontainers.image.title="imago" \
      org.opencontainers.image.description="Upload an image, read back its camera, its text and what is in it" \
      org.opencontainers.image.licenses="MIT"
RUN apt-get update \
    && apt-get install -y --no-install-recommends tesseract-ocr tesseract-ocr-fra tesseract-ocr-eng \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin imago
COPY --from=build /opt/imago /opt/imago
COPY --from=build /opt/models /opt/models
ENV PATH=/opt/imago/bin:$PATH MODEL_DIR=/opt/models HOST=0.0.0.0 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001

FROM runtime AS operator
EXPOSE 8080
ENTRYPOINT ["imago-operator"]

FROM runtime AS imago
EXPOSE 8000
ENTRYPOINT ["imago"]
CMD ["api"]
