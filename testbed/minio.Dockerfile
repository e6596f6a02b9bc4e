# MinIO, the object store for development. Build from the repository's root: docker build -f testbed/minio.Dockerfile .
#
# MinIO's own images have been removed from Docker Hub. This one is built from its source, in the version of the tests.
ARG GO=golang:1.26
ARG BASE=debian:bookworm-slim
FROM ${GO} AS build
WORKDIR /src
COPY testbed/go/minio/go.mod testbed/go/minio/go.sum ./
RUN CGO_ENABLED=0 go build -mod=readonly -buildvcs=false -trimpath -ldflags='-s -w' -o /minio github.com/minio/minio

FROM ${BASE}
COPY --from=build /minio /usr/local/bin/minio
ENV HOME=/tmp
WORKDIR /tmp
USER 10001:10001
EXPOSE 9000
ENTRYPOINT ["minio"]
