-- What processes counted, interval by interval.

CREATE TABLE metric_points (
    metric   TEXT    NOT NULL,
    label    TEXT    NOT NULL, -- what of it, such as a group of routes; empty, if it is not divided
    at       INTEGER NOT NULL, -- the end of the interval
    instance TEXT    NOT NULL, -- the process, from its start to its end
    value    REAL    NOT NULL,
    PRIMARY KEY (metric, label, at, instance)
) STRICT, WITHOUT ROWID;

CREATE INDEX metric_points_at ON metric_points (at);
