# s3ferry as container images. A plain build makes the last target, `job`: docker run IMAGE run --manifest=… …
# `--target=worker` makes the pool of Beam's Python workers that goes beside a TaskManager or a Spark worker.
# BASE is any image with Python >= 3.11 and its venv module: also a plain Debian bookworm with python3 and python3-venv.
# Debian bookworm has the Java that docs/container.md adds to the job's image.
ARG BASE=python:3.11.15-slim-bookworm

FROM ${BASE} AS build
ARG SETUPTOOLS=82.0.0
# Where pip finds packages, as its own variables say it: a build that is given none of them uses /etc/pip.conf of BASE,
# or PyPI. They stay in this stage, whose history no image has.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
ARG PIP_CERT
ARG PIP_DEFAULT_TIMEOUT
WORKDIR /src
COPY . .
# pip stays out of what is copied on, and what nobody runs goes: tests, headers, sources of what is compiled
RUN python3 -m venv /build \
    && python3 -m venv --without-pip /opt/s3ferry \
    && pip="/build/bin/pip --no-cache-dir --disable-pip-version-check --no-input" \
    && $pip install setuptools==${SETUPTOOLS} \
    && $pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
    && $pip --python /opt/s3ferry/bin/python install --only-binary :all: -c constraints.txt /dist/*.whl \
    && cd /opt/s3ferry/lib/python3*/site-packages \
    && find . -depth -type d '(' -name tests -o -path ./pyarrow/include -o -path ./numpy/_core/include \
         -o -path ./apache_beam/examples ')' -exec rm -rf '{}' + \
    && find . -type f '(' -name '*_test.py' -o -name '*_test.cpython-*.pyc' -o -name '*.pyx' -o -name '*.pxd' \
         -o -name '*.pxi' -o -name '*.a' -o -name '*.h' -o -name '*.hpp' ')' -delete

FROM ${BASE} AS runtime
ARG BASE
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="s3ferry" \
      org.opencontainers.image.description="Verified bulk copy from S3 to S3 with an integrity ledger in PostgreSQL" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${BASE}"
# Any user may write to HOME: some clusters give each namespace user ids of its own. A pip of BASE goes.
RUN groupadd --gid 10001 s3ferry \
    && useradd --uid 10001 --gid 10001 --home-dir /home/s3ferry --no-create-home --shell /usr/sbin/nologin s3ferry \
    && install --directory --owner=10001 --group=10001 --mode=1777 /home/s3ferry \
    && cd /usr/local && rm -rf bin/pip* lib/python3*/site-packages/pip* lib/python3*/site-packages/setuptools* \
         lib/python3*/site-packages/wheel* lib/python3*/site-packages/pkg_resources
COPY --from=build /opt/s3ferry /opt/s3ferry
# No package's name may be taken by a folder of the place it runs in, and nothing is compiled at run time.
ENV PATH=/opt/s3ferry/bin:$PATH \
    HOME=/home/s3ferry \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1
USER 10001:10001
WORKDIR /home/s3ferry

FROM runtime AS worker
EXPOSE 50000
ENTRYPOINT ["python", "-m", "pipeline.worker_pool"]
CMD ["--address=0.0.0.0:50000"]

FROM runtime AS job
ENTRYPOINT ["s3ferry"]
CMD ["--help"]
