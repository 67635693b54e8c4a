# An image with Ray and ray_durable, for the chart in helm/ray-durable.
#
#   docker build -t registry.example.com/ray-durable:0.1.0 .
#
# Your own code and its dependencies go on top:
#
#   FROM registry.example.com/ray-durable:0.1.0
#   COPY requirements.txt .
#   RUN pip install --no-cache-dir -r requirements.txt

# Ray and Python must be those of the clients that submit jobs; rayVersion in the chart's values says the same.
ARG RAY_VERSION=2.60.0
ARG PYTHON_VERSION=3.11
ARG RAY_IMAGE=rayproject/ray:${RAY_VERSION}-py311

# --- The wheel. Nothing of this stage but the wheel reaches the image.
FROM python:${PYTHON_VERSION}-slim AS build
WORKDIR /src
RUN pip install --no-cache-dir hatchling==1.27.0
COPY pyproject.toml README.md LICENSE ./
COPY ray_durable ray_durable
COPY examples examples
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels .

# --- The image: Ray's own, and the wheel with what it needs.
FROM ${RAY_IMAGE} AS image
ARG RAY_VERSION
LABEL org.opencontainers.image.title="ray-durable" \
      org.opencontainers.image.description="Ray with durable coroutines" \
      org.opencontainers.image.licenses="Apache-2.0"
# The user `ray` of Ray's image, as numbers, so that Kubernetes can see that it is not root.
USER 1000:100
# The constraint keeps pip from replacing the Ray of the image; the wheel is mounted, not copied, and leaves no layer behind.
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    printf 'ray==%s\n' "${RAY_VERSION}" > /tmp/constraints.txt \
    && for wheel in /wheels/ray_durable-*.whl; do \
         pip install --no-cache-dir --constraint /tmp/constraints.txt "${wheel}[encryption]"; \
       done \
    && rm /tmp/constraints.txt \
    && ray-durable --help > /dev/null
