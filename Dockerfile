# syntax=docker/dockerfile:1
#
#   docker build -t moothall .
#   docker run --rm -v "$PWD/examples:/in:ro" -v moothall:/data moothall process /in/mentoring.csv
#   docker run -d --name moothall -p 127.0.0.1:8080:8080 -v moothall:/data moothall
#
# With RabbitMQ and several workers: compose.yaml.

FROM rust:1.95-slim-bookworm AS builder
WORKDIR /src
# The official image holds exactly this toolchain; without it rustup would fetch
# the components that rust-toolchain.toml adds for the checks.
ENV RUSTUP_TOOLCHAIN=1.95.0
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin moothall \
    && install -D -m 0755 target/release/moothall /image/usr/local/bin/moothall \
    && install -d /image/usr/local/share/moothall \
    && cp -r config /image/usr/local/share/moothall/ \
    && install -d /image/usr/local/share/moothall/models \
    && cp -r models/manifest.toml models/heads.safetensors models/encoder models/cards \
         /image/usr/local/share/moothall/models/ \
    && install -D -m 0644 -t /image/usr/local/share/doc/moothall LICENSE-MIT LICENSE-APACHE

FROM debian:bookworm-slim
# The authorities that amqps:// trusts.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/*
RUN groupadd --system --gid 10001 moothall \
    && useradd --system --uid 10001 --gid moothall --home-dir /data --shell /usr/sbin/nologin moothall \
    && install -d -o moothall -g moothall -m 0700 /data
COPY --from=builder /image/ /
# Inside a container loopback reaches nobody, so it listens on every address of the
# container; publish the port on the host's loopback, or behind a proxy with a sign-in.
ENV MOOTHALL_MODELS=/usr/local/share/moothall/models \
    MOOTHALL_CONSULTATIONS=/usr/local/share/moothall/config \
    MOOTHALL_OUT=/data \
    MOOTHALL_SERVER_LISTEN=0.0.0.0:8080 \
    MOOTHALL_LOG_FORMAT=json
USER moothall
WORKDIR /data
VOLUME /data
EXPOSE 8080
# The first signal lets work in hand finish; give `docker stop` more than shutdown.grace_ms.
STOPSIGNAL SIGTERM
# A `worker` answers it with `--listen 0.0.0.0:8080`.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 CMD ["moothall", "health"]
ENTRYPOINT ["moothall"]
CMD ["run"]
