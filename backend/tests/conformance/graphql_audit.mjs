// The audit of GraphQL over HTTP (https://graphql.github.io/graphql-over-http/), as the package graphql-http has it.
// usage: node graphql_audit.mjs URL TOKEN. Prints what was not kept; fails when that is a MUST.
import { auditServer } from "graphql-http";

const [url, token] = process.argv.slice(2);
const authorised = (target, options = {}) =>
  fetch(target, { ...options, headers: { ...options.headers, authorization: `Bearer ${token}` } });

const results = await auditServer({ url, fetchFn: authorised });
const broken = results.filter((result) => result.status !== "ok");
for (const { status, id, name, reason } of broken) {
  console.log(`${status} ${id} ${name}: ${reason}`);
}
console.log(`${results.length - broken.length} of ${results.length} kept`);
process.exit(results.length === 0 || broken.some((result) => result.name.startsWith("MUST")) ? 1 : 0);
