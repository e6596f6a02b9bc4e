# Policy and PPM servers with the engine vLLM: build from the repository's root with
#   docker build -f services/policy/vllm.Dockerfile .
# vLLM compiles kernels when it starts, so the image needs a C compiler: not the slim one. CUDA comes with torch.
ARG BASE=python:3.12
FROM ${BASE} AS tools
RUN python -m venv /build && /build/bin/pip install --no-cache-dir uv==0.13.9
WORKDIR /src

FROM tools AS packages
COPY pyproject.toml requirements-vllm.lock ./
# The lock fixes the versions.
RUN /build/bin/uv pip compile --no-cache --quiet --no-header --no-annotate --extra vllm --extra tracing --constraint requirements-vllm.lock --output-file /packages.txt pyproject.toml

FROM tools AS wheel
COPY pyproject.toml requirements-vllm.lock README.md LICENSE ./
COPY rstar rstar
COPY services services
COPY jobs jobs
COPY operators operators
RUN /build/bin/uv build --no-cache --wheel --out-dir /wheels

FROM ${BASE}
COPY --from=packages /packages.txt /opt/packages.txt
# A layer of its own, made again only when the list changes: it has vLLM's own torch.
RUN --mount=type=bind,from=tools,source=/build,target=/build \
    python -m venv --without-pip /opt/rstar && \
    /build/bin/uv pip install --no-cache --compile-bytecode --python /opt/rstar/bin/python --requirements /opt/packages.txt
COPY --from=wheel /wheels /opt/wheels
RUN --mount=type=bind,from=tools,source=/build,target=/build \
    /build/bin/uv pip install --no-cache --compile-bytecode --python /opt/rstar/bin/python --no-deps --no-index /opt/wheels/*.whl
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="rstar/vllm" org.opencontainers.image.version="${VERSION}" org.opencontainers.image.licenses="Apache-2.0"
# Waiting threads must not spin: on shared cores they would slow each other down.
ENV OMP_WAIT_POLICY=passive
ENV PATH=/opt/rstar/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# Libraries look up the user's name and home, but the user has no entry in /etc/passwd and may write only below /tmp.
ENV USER=rstar LOGNAME=rstar HOME=/tmp
# Without --cache, fetched checkpoints go below the working directory.
ENV HF_HOME=/tmp/huggingface XDG_CACHE_HOME=/tmp/.cache TORCHINDUCTOR_CACHE_DIR=/tmp/.cache/inductor VLLM_NO_USAGE_STATS=1
WORKDIR /tmp
USER 10001:10001
EXPOSE 50051 50052 9090
ENTRYPOINT ["python", "-m", "rstar_policy", "--engine", "vllm", "--host", "0.0.0.0", "--port", "50051", "--metrics-port", "9090"]
