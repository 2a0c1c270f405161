# The page and the REST face of potnet, computing on the CPU: docs/serve.md says how to run it.
FROM python:3.12.12-slim-bookworm AS build

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/potnet
WORKDIR /source
COPY constraints.txt pyproject.toml README.md LICENSE NOTICE ./
# torch first: it is the largest layer, and it changes least. The CPU build has no CUDA in it.
RUN version="$(sed -n 's/^torch==\([^ ;]*\).*/\1/p' constraints.txt)" \
  && /opt/potnet/bin/pip install "torch==$version" --index-url https://download.pytorch.org/whl/cpu
COPY src ./src
COPY examples/crystals ./examples/crystals
RUN grep -v '^torch==' constraints.txt > /tmp/constraints.txt \
  && /opt/potnet/bin/pip install '.[serve]' --constraint /tmp/constraints.txt

FROM python:3.12.12-slim-bookworm

LABEL org.opencontainers.image.title="potnet" org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/potnet /opt/potnet
COPY examples/crystals/Si.vasp /tmp/Si.vasp
# An image that cannot predict is not built.
RUN /opt/potnet/bin/potnet predict /tmp/Si.vasp > /dev/null \
  && rm /tmp/Si.vasp \
  && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin potnet
USER 10001
ENV PATH=/opt/potnet/bin:$PATH PYTHONUNBUFFERED=1
EXPOSE 8765
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8765/health', timeout=4)"]
# Reached from other addresses, it asks for the token in POTNET_TOKEN.
ENTRYPOINT ["potnet", "serve", "--no-browser", "--host", "0.0.0.0", "--port", "8765"]
