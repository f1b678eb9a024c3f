-- One metric over a time, whatever its labels: the primary key would read every point of the metric that is kept.

CREATE INDEX IF NOT EXISTS metric_points_metric ON metric_points (metric, at);
