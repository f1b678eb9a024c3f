-- Where in the trace of its request a job was made, if the request is told of: what workers do for it stands below that.

ALTER TABLE jobs ADD COLUMN traceparent TEXT;
