"""Where artefacts are kept: a folder or an S3 bucket, Parquet tables, digests of files."""
