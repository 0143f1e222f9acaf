# The `daicho` command in a container: nothing but Python, the pinned packages and the program.

FROM python:3.11.15-slim-bookworm AS build
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/daicho
COPY requirements.lock ./
RUN /opt/daicho/bin/pip install --quiet --require-hashes --only-binary :all: -r requirements.lock
COPY . ./
RUN /opt/daicho/bin/pip install --quiet --no-deps --no-build-isolation . ./verifier \
 && /opt/daicho/bin/python -m compileall -q /opt/daicho/lib

FROM python:3.11.15-slim-bookworm
LABEL org.opencontainers.image.title="Daicho" org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/daicho/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY --from=build /opt/daicho /opt/daicho
COPY --chmod=0755 deploy/health.py /usr/local/bin/daicho-health
# any user will do: docker-compose.yml names the owner of the secrets' files
USER 10001:10001
WORKDIR /tmp
ENTRYPOINT ["daicho"]
CMD ["serve"]
