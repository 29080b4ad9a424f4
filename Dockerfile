# The job as a container: docker run s3ferry run --manifest=... --destination=...
# BASE is any image with Python >= 3.11 and its venv module.
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
WORKDIR /src
COPY . .
RUN python3 -m venv /opt/s3ferry \
    && /opt/s3ferry/bin/pip install --no-cache-dir --disable-pip-version-check -c constraints.txt .

FROM ${BASE}
RUN useradd --system --uid 10001 --create-home s3ferry
COPY --from=build /opt/s3ferry /opt/s3ferry
ENV PATH=/opt/s3ferry/bin:$PATH \
    PYTHONUNBUFFERED=1
USER s3ferry
WORKDIR /home/s3ferry
ENTRYPOINT ["s3ferry"]
