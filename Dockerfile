# A server. `docker build -t hookline .`, then `docker run -p 8000:8000 hookline` serves the demo model.
# For NVIDIA GPUs: `docker build --build-arg DEVICE=cuda -t hookline:cuda .`, and `docker run --gpus all ...`.
# More in docs/deploying.md.
FROM python:3.11-slim AS build

ARG DEVICE=cpu
# torch without CUDA is a tenth of the size.
ARG TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src

COPY constraints.txt .
RUN python -m venv /opt/hookline
RUN if [ "$DEVICE" = cpu ]; then /opt/hookline/bin/pip install --no-deps -c constraints.txt --index-url "$TORCH_CPU_INDEX" torch; fi
RUN pip install -c constraints.txt hatchling
COPY core core
COPY plugins plugins
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels ./core ./plugins/*
RUN /opt/hookline/bin/pip install -c constraints.txt /wheels/*.whl

FROM python:3.11-slim

ARG DEVICE=cpu
# Triton compiles the launcher of a kernel with a C compiler.
RUN if [ "$DEVICE" = cuda ]; then apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*; fi
RUN useradd --create-home --uid 1000 hookline && install -d -o hookline /cache
COPY --from=build /opt/hookline /opt/hookline

# What is downloaded lies in /cache: mount a volume there to keep it.
ENV PATH=/opt/hookline/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HF_HOME=/cache \
    HOOKLINE__SERVER__HOST=0.0.0.0 \
    HOOKLINE__SERVER__PORT=8000
USER 1000
WORKDIR /home/hookline
EXPOSE 8000
# 503 while it loads, and when requests wait but nothing gets on. A large model loads for minutes.
HEALTHCHECK --interval=15s --timeout=5s --start-period=10m --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f\"http://127.0.0.1:{os.environ['HOOKLINE__SERVER__PORT']}/health\", timeout=4)"]
ENTRYPOINT ["hookline"]
CMD ["serve"]
