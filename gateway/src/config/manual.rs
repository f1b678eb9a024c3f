//! Manual: the keys of the file as Markdown and as JSON Schema, made from the sections themselves.

use common::settings::{Decode as _, json_schema, markdown};

use super::raw::File;

const INTRO: &str = "<!-- Generated from gateway/src/config/raw/ by `make docs`; a test compares. -->\n\n\
Durations are written with their unit (`250ms`, `10s`, `5m`, `1h`, `7d`), sizes as `512`, `64KiB` or `10MiB`, shares as `20%`.\n\
Secrets are never written in the open: `env:NAME` or `file:PATH` says where they are. Every mistake in a file is reported\n\
at once with its line and column (`gateway check -c FILE`).";

/// `docs/configuration.md`.
pub(crate) fn configuration() -> String {
    markdown("Gateway configuration", INTRO, &File::shape())
}

/// The JSON Schema for editors.
pub(crate) fn schema() -> serde_json::Value {
    json_schema("Capibara6 gateway", &File::shape())
}
