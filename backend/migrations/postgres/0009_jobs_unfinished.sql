-- How much of one owner's has not ended, asked for each new batch of theirs: few jobs, however many have.

CREATE INDEX IF NOT EXISTS jobs_unfinished ON jobs (owner) WHERE finished_at IS NULL;
