-- What processes counted, interval by interval. Where TimescaleDB is there, the program makes it a hypertable by `at`.

CREATE TABLE metric_points (
    metric   TEXT   COLLATE "C" NOT NULL,
    label    TEXT   COLLATE "C" NOT NULL, -- what of it, such as a group of routes; empty, if it is not divided
    at       BIGINT NOT NULL,             -- the end of the interval
    instance TEXT   COLLATE "C" NOT NULL, -- the process, from its start to its end
    value    DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (metric, label, at, instance)
);

CREATE INDEX metric_points_at ON metric_points (at);
