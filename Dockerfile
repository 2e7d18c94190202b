# The package, its workflow, and the weights of the default encoder: runs without a network.
#   docker build -t mil .                                        torch with CUDA
#   docker build -t mil:cpu --build-arg TORCH_INDEX=ADDRESS .    torch for processors alone
# docs/how-to/cluster.md#container tells how to build, run and test it.

# Python 3.11.16 on Debian 12, for all platforms. Another base needs python3 with venv, and bash.
ARG BASE=python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b
FROM ${BASE}

# Address of the index of wheels without CUDA, which PyTorch's installation page names; empty: CUDA.
ARG TORCH_INDEX=""

# Environment first: it changes less often than the sources.
WORKDIR /opt/mil
COPY requirements.lock ./
# Of torch for processors alone the two wheels are pinned by their versions, all others by hashes.
RUN python3 -m venv /opt/venv \
    && export PATH=/opt/venv/bin:$PATH \
    && install() { pip install --no-cache-dir --no-deps "$@"; } \
    && if [ -z "$TORCH_INDEX" ]; then \
         install --require-hashes -r requirements.lock; \
       else \
         awk '/^[a-z]/ {keep = !/^(torch|torchvision|nvidia-|cuda-)/} keep' requirements.lock > /tmp/cpu.lock \
         && install --require-hashes -r /tmp/cpu.lock \
         && install --index-url "$TORCH_INDEX" $(grep -oE '^torch(vision)?==[0-9.]+' requirements.lock) \
         && rm /tmp/cpu.lock; \
       fi

COPY pyproject.toml README.md LICENSE Snakefile ./
COPY workflow ./workflow
COPY profiles ./profiles
COPY configs ./configs
COPY mil ./mil
# Editable: configs/ and the workflow lie beside the package.
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation -e . \
    && /opt/venv/bin/python -m compileall -q mil \
    && rm -rf build

# Any user id may run it, so that files outside belong to the caller (docker run --user).
RUN useradd --uid 1000 --create-home mil && chmod 0777 /home/mil && mkdir -m 0777 /work
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/home/mil \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HDF5_USE_FILE_LOCKING=BEST_EFFORT
USER mil
WORKDIR /work
CMD ["mil", "--help"]
