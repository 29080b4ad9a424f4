-- The words are those of model/status.py; a test compares them.
CREATE TYPE object_status AS ENUM (
    'VERIFIED', 'COPIED', 'SKIPPED', 'EXCLUDED', 'DUPLICATE', 'ARCHIVED',
    'SOURCE_GONE', 'SOURCE_CHANGED', 'MISMATCH', 'DESTINATION_GONE', 'FAILED', 'BAD_ROW'
);
CREATE TYPE size_class AS ENUM ('small', 'medium', 'large');
CREATE TYPE source_evidence AS ENUM ('stored_checksum', 'etag_md5', 'multipart_etag', 'length', 'none');
CREATE TYPE destination_evidence AS ENUM (
    'readback', 'signed_body', 'trailing_crc64nvme', 'full_object_crc64nvme', 'etag_md5', 'multipart_etag', 'none'
);

CREATE TABLE runs (
    run_id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job               text NOT NULL,
    fence             bigint NOT NULL,
    manifest          text NOT NULL,
    manifest_checksum text,
    package_version   text NOT NULL,
    options           jsonb NOT NULL,
    holder            jsonb NOT NULL,
    started_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at       timestamptz,
    outcome           text NOT NULL DEFAULT 'running'
        CHECK (outcome IN ('running', 'succeeded', 'failed', 'interrupted', 'broken', 'abandoned')),
    exit_code         integer,
    stop_requested    text,
    error             text,
    summary           jsonb
);
CREATE INDEX runs_of_job ON runs (job, run_id);

-- One row per job, kept for ever so that the fence only grows. expires_at NULL: released.
CREATE TABLE leases (
    job                  text PRIMARY KEY,
    run_id               bigint NOT NULL,
    fence                bigint NOT NULL,
    token                text NOT NULL,
    holder               jsonb NOT NULL,
    destination_endpoint text COLLATE "C" NOT NULL,
    destination_bucket   text COLLATE "C" NOT NULL,
    destination_prefix   text COLLATE "C" NOT NULL,
    renewed_at           timestamptz NOT NULL,
    expires_at           timestamptz
);

CREATE TABLE workers (
    run_id    bigint NOT NULL,
    worker_id text NOT NULL,
    host      text NOT NULL,
    pid       integer NOT NULL,
    process   jsonb NOT NULL,
    last_seen timestamptz NOT NULL,
    counters  jsonb NOT NULL,
    PRIMARY KEY (run_id, worker_id)
);

CREATE TABLE manifest_files (
    run_id       bigint NOT NULL,
    file_number  integer NOT NULL,
    slice        integer NOT NULL,
    file_key     text COLLATE "C" NOT NULL,
    size         bigint NOT NULL,
    md5          text,
    rows         bigint NOT NULL,
    object_bytes bigint NOT NULL,
    PRIMARY KEY (run_id, file_number, slice)
);

-- size_class 'none': rows that took no branch, such as EXCLUDED and BAD_ROW.
CREATE TABLE manifest_counts (
    run_id       bigint NOT NULL,
    slice        integer NOT NULL,
    file_number  integer NOT NULL,
    size_class   text NOT NULL CHECK (size_class IN ('small', 'medium', 'large', 'none')),
    status       object_status NOT NULL,
    objects      bigint NOT NULL,
    object_bytes bigint NOT NULL,
    PRIMARY KEY (run_id, slice, file_number, size_class, status)
);

CREATE TABLE objects (
    job                  text COLLATE "C" NOT NULL,
    source_bucket        text NOT NULL,
    source_key           text COLLATE "C" NOT NULL,
    source_version       text,
    destination_bucket   text NOT NULL,
    destination_key      text COLLATE "C" NOT NULL,
    size                 bigint NOT NULL,
    size_class           size_class NOT NULL,
    source_etag          text,
    destination_etag     text,
    md5                  text,
    sha256               text,
    crc64nvme            text,
    status               object_status NOT NULL,
    source_evidence      source_evidence NOT NULL,
    destination_evidence destination_evidence NOT NULL,
    run_id               bigint NOT NULL,
    attempts             integer NOT NULL,
    started_at           timestamptz,
    finished_at          timestamptz,
    error                text,
    destination_version  text,
    file_number          integer NOT NULL,
    row_number           bigint NOT NULL,
    PRIMARY KEY (job, destination_key)
);
-- Small, because most objects are fine: what is wrong now, by job.
CREATE INDEX objects_not_copied ON objects (job, status) WHERE status NOT IN ('VERIFIED', 'COPIED');

CREATE TABLE attempts (
    run_id               bigint NOT NULL,
    file_number          integer NOT NULL,
    row_number           bigint NOT NULL,
    source_bucket        text NOT NULL,
    source_key           text COLLATE "C" NOT NULL,
    source_version       text,
    destination_bucket   text NOT NULL,
    destination_key      text COLLATE "C" NOT NULL,
    size                 bigint NOT NULL,
    size_class           size_class NOT NULL,
    source_etag          text,
    destination_etag     text,
    destination_version  text,
    md5                  text,
    sha256               text,
    crc64nvme            text,
    status               object_status NOT NULL,
    source_evidence      source_evidence NOT NULL,
    destination_evidence destination_evidence NOT NULL,
    attempts             integer NOT NULL,
    started_at           timestamptz,
    finished_at          timestamptz,
    error                text,
    PRIMARY KEY (run_id, destination_key)
) PARTITION BY LIST (run_id);
-- What --max_failures asks every few seconds.
CREATE INDEX attempts_failed ON attempts (status) WHERE status IN ('FAILED', 'MISMATCH');

CREATE TABLE uploads (
    identity             text PRIMARY KEY,
    job                  text NOT NULL,
    run_id               bigint NOT NULL,
    state                text NOT NULL CHECK (state IN ('open', 'completed', 'aborted')),
    upload_id            text NOT NULL,
    source_endpoint      text NOT NULL,
    source_bucket        text NOT NULL,
    source_key           text COLLATE "C" NOT NULL,
    source_version       text,
    source_etag          text NOT NULL,
    destination_endpoint text NOT NULL,
    destination_bucket   text NOT NULL,
    destination_key      text COLLATE "C" NOT NULL,
    size                 bigint NOT NULL,
    part_size            bigint NOT NULL,
    part_count           integer NOT NULL,
    full_object_crc      boolean NOT NULL,
    started_at           timestamptz NOT NULL,
    closed_at            timestamptz
);
CREATE INDEX uploads_open ON uploads (job, started_at) WHERE state = 'open';

CREATE TABLE parts (
    identity    text NOT NULL,
    part_number integer NOT NULL,
    size        bigint NOT NULL,
    etag        text NOT NULL,
    md5         text,
    sha256      text,
    crc64nvme   text,
    finished_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (identity, part_number)
);

CREATE TABLE dead_letters (
    run_id      bigint NOT NULL,
    file_number integer NOT NULL,
    row_number  bigint NOT NULL,
    status      object_status NOT NULL,
    reason      text NOT NULL,
    text        text NOT NULL,
    PRIMARY KEY (run_id, file_number, row_number, status)
);
