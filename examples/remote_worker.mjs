#!/usr/bin/env node
/**
 * A worker for GoQueue in JavaScript: one file, no dependencies, Node 20 or later.
 *
 *     GOQUEUE_URL=http://127.0.0.1:8000 GOQUEUE_API_KEY=gq_… \
 *         node remote_worker.mjs --queue mail --slots 4 --handlers ./my_handlers.mjs
 *
 * The module of handlers has one function for each job type as its default export:
 *
 *     export default { send_mail: async (payload, job) => ({ sent: true }) };
 *
 * What a handler returns is the result. What it throws is a failed attempt, which its type retries; with
 * `error.discard = true` it fails for good, and `error.retryAfter = 60` says when to retry. `job.signal` is
 * aborted when the job was cancelled, when its lease is lost, or when this process has to stop now; `job.fence`
 * rises with each lease of a job, for side effects that must not be overtaken by an earlier attempt.
 *
 * docs/remote-workers.md describes the protocol.
 */

import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const WAIT_SECONDS = 20;
const ANSWER_SECONDS = 10;
const GRACE_SECONDS = 25;
const PAUSES_SECONDS = [0.1, 0.2, 0.5, 1, 2, 5];

const { values: options } = parseArgs({
  options: {
    queue: { type: "string" },
    handlers: { type: "string" },
    slots: { type: "string", default: "1" },
  },
});
const url = (process.env.GOQUEUE_URL ?? "http://127.0.0.1:8000").replace(/\/$/, "");
const headers = { "Content-Type": "application/json" };
if (process.env.GOQUEUE_API_KEY) headers.Authorization = `Bearer ${process.env.GOQUEUE_API_KEY}`;

const { default: handlers } = await import(pathToFileURL(resolve(options.handlers)).href);
const slots = Number(options.slots);

/** The name of this process, which no other one has, nor the next one that is started here. */
const worker = `${hostname()}:${process.pid}:${randomBytes(4).toString("hex")}`;

/** Token → the job, what aborts its handler, and when the service last said that we hold it. */
const held = new Map();

let leaseSeconds = 15;
let heartbeatSeconds = 5;
let stopping = false;
const stopped = new AbortController();
let wakeUp = () => {};

const log = (event, fields = {}) => console.log(JSON.stringify({ event, worker, ...fields }));

/** One request: the status and the document of its answer. Throws where there was none. */
async function ask(path, body, seconds = ANSWER_SECONDS, signals = []) {
  const answer = await fetch(url + path, {
    method: "POST",
    headers,
    body: JSON.stringify(body),
    signal: AbortSignal.any([AbortSignal.timeout(seconds * 1000), ...signals]),
  });
  const text = await answer.text();
  return { status: answer.status, document: text ? JSON.parse(text) : null };
}

/** Say how an attempt ended until there is an answer: saying it twice is as good as once. */
async function say(token, what, body) {
  for (let tries = 0; ; tries += 1) {
    try {
      const { status, document } = await ask(`/leases/${token}/${what}`, body);
      if (status < 500 && status !== 429) return { status, document };
    } catch (error) {
      log("no_answer", { what, error: String(error.cause ?? error) });
    }
    await sleep(PAUSES_SECONDS[Math.min(tries, PAUSES_SECONDS.length - 1)] * 1000);
  }
}

/** Run one job, and say what became of it. */
async function run(job) {
  const controller = new AbortController();
  const lease = { job, controller, heardAt: performance.now(), cancelled: false };
  held.set(job.token, lease);
  const started = performance.now();
  const limit = job.time_limit_seconds
    ? setTimeout(() => controller.abort(new Error("the time limit is over")), job.time_limit_seconds * 1000)
    : null;
  const seconds = () => (performance.now() - started) / 1000;
  let what = "complete";
  let body;
  try {
    const report = (kind, said) => ask(`/leases/${job.token}/${kind}`, said).catch(() => {});
    const result = await handlers[job.type](job.payload, {
      ...job,
      signal: controller.signal,
      progress: (progress, message = null) => report("progress", { progress, message }),
      log: (...lines) => report("log", { lines }),
    });
    body = { result: result ?? null, run_seconds: seconds() };
  } catch (error) {
    what = "fail";
    body = failure(error, lease);
    body.run_seconds = seconds();
  }
  clearTimeout(limit);
  if (lease.lost) {
    log("lease_lost", { job_id: job.id, fence: job.fence });
  } else {
    const { status, document } = await say(job.token, what, body);
    if (status === 413) {
      await say(job.token, "fail", { error: document.detail, error_type: "ResultTooLarge", discard: true });
    } else if (status >= 400) {
      log("end_refused", { job_id: job.id, fence: job.fence, status, detail: document?.detail });
    }
  }
  held.delete(job.token);
  wakeUp();
}

/** What is said of an attempt that failed, was cancelled, or is given back. */
function failure(error, lease) {
  if (lease.cancelled) return { error: "cancelled", cancelled: true };
  if (lease.interrupted) return { error: "the worker stops", interrupted: true };
  const body = { error: String(error?.message ?? error).slice(0, 4000) };
  if (/^[A-Za-z_][\w.]{0,99}$/.test(error?.name ?? "")) body.error_type = error.name;
  if (error?.stack) body.traceback = String(error.stack).slice(0, 32000);
  if (error?.discard) body.discard = true;
  else if (error?.retryAfter > 0) body.retry_after = Number(error.retryAfter);
  return body;
}

/** The lease of a job is over: somebody else has it, or will have it soon. */
function lose(token) {
  const lease = held.get(token);
  if (!lease || lease.lost) return;
  lease.lost = true;
  lease.controller.abort(new Error("the lease is lost"));
}

/** Renew the leases of all jobs, as often as the service asks for it; stop what is to be stopped. */
async function beat() {
  for (;;) {
    await sleep((heartbeatSeconds * 1000) / 2);
    let tokens = [...held.keys()].filter((token) => !held.get(token).lost);
    while (tokens.length > 0) {
      const [first, ...others] = tokens;
      const askedAt = performance.now();
      let answer;
      try {
        answer = await ask(`/leases/${first}/heartbeat`, { tokens: others });
      } catch {
        break;
      }
      if (answer.status === 404 || answer.status === 409) {
        lose(first);
        tokens = others;
        continue;
      }
      if (answer.status === 200) heard(answer.document, first, others, askedAt);
      break;
    }
    const now = performance.now();
    for (const [token, lease] of held) if (now - lease.heardAt > leaseSeconds * 1000) lose(token);
  }
}

/** Take what a heartbeat was answered with. */
function heard(document, first, others, askedAt) {
  leaseSeconds = document.lease_seconds;
  const lost = new Set(document.lost_tokens);
  const cancelled = new Set(document.cancelled_tokens);
  if (document.cancel) cancelled.add(first);
  for (const token of [first, ...others]) {
    const lease = held.get(token);
    if (!lease) continue;
    if (lost.has(token)) lose(token);
    else lease.heardAt = askedAt;
    if (cancelled.has(token) && !lease.cancelled) {
      lease.cancelled = true;
      lease.controller.abort(new Error("the job was cancelled"));
    }
  }
  if (document.stop) stop("requested");
}

/** Stop after the jobs that run, or after the grace period. */
function stop(why) {
  if (stopping) return;
  stopping = true;
  log("stopping", { why, jobs: held.size });
  stopped.abort();
  wakeUp();
}

/** Take jobs while there is room, until this process shall stop. */
async function lease() {
  const path = `/queues/${encodeURIComponent(options.queue)}/lease`;
  const types = Object.keys(handlers);
  for (let failures = 0; !stopping; ) {
    if (held.size >= slots) {
      await new Promise((woken) => (wakeUp = woken));
      continue;
    }
    const wanted = { worker, types, slots, limit: Math.min(100, slots - held.size), language: "JavaScript" };
    try {
      const body = { ...wanted, wait_seconds: WAIT_SECONDS };
      const { status, document } = await ask(path, body, WAIT_SECONDS + ANSWER_SECONDS, [stopped.signal]);
      if (status !== 200) throw new Error(document?.detail ?? `status ${status}`);
      failures = 0;
      leaseSeconds = document.lease_seconds;
      heartbeatSeconds = document.heartbeat_seconds;
      for (const job of document.jobs) run(job);
      if (document.stop) stop("requested");
    } catch (error) {
      // What was leased at this very moment is taken back with the goodbye.
      if (stopping) break;
      log("no_lease", { error: String(error.cause ?? error) });
      await sleep(PAUSES_SECONDS[Math.min(failures, PAUSES_SECONDS.length - 1)] * 1000);
      failures += 1;
    }
  }
  return { path, types };
}

process.on("SIGTERM", () => stop("signal"));
process.on("SIGINT", () => stop("signal"));
log("started", { queue: options.queue, slots, types: Object.keys(handlers) });
beat();
const { path, types } = await lease();
const until = performance.now() + GRACE_SECONDS * 1000;
while (held.size > 0 && performance.now() < until) await sleep(50);
for (const one of held.values()) {
  one.interrupted = true;
  one.controller.abort(new Error("the worker stops"));
}
for (let tries = 0; held.size > 0 && tries < 100; tries += 1) await sleep(50);
await ask(path, { worker, types, goodbye: true }).catch(() => {});
process.exit(0);
