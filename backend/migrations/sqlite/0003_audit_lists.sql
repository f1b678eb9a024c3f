-- Lists of one kind or of one subject, the newest first. The index of `at` serves the list of everything.

CREATE INDEX audit_events_kind ON audit_events (kind, at, id);

CREATE INDEX audit_events_subject ON audit_events (subject, at, id);
