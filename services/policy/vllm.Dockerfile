# Policy and PPM servers with the engine vLLM: build from the repository's root with
#   docker build -f services/policy/vllm.Dockerfile .
# vLLM compiles kernels when it starts, so the image needs a C compiler: not the slim one. CUDA comes with torch.
ARG BASE=python:3.12
FROM ${BASE} AS build
WORKDIR /src
RUN python -m venv /opt/rstar
COPY pyproject.toml requirements-vllm.lock README.md LICENSE ./
COPY rstar rstar
COPY services services
COPY jobs jobs
COPY operators operators
# The lock fixes the versions, vLLM's own torch among them.
RUN /opt/rstar/bin/pip install --no-cache-dir --constraint requirements-vllm.lock '.[vllm]'

FROM ${BASE}
COPY --from=build /opt/rstar /opt/rstar
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
