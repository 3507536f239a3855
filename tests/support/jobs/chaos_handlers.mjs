/** Handlers of the chaos jobs for examples/remote_worker.mjs: they leave lines in a file of the test. */

import { appendFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

const note = (job, what) =>
  appendFileSync(
    process.env.CHAOS_SIDE_EFFECTS,
    `${job.id} ${job.fence} ${job.attempt} ${process.pid} ${what} ${(Date.now() / 1000).toFixed(6)}\n`,
  );

const effects = (work) => async (payload, job) => {
  note(job, "start");
  await work(payload, job);
  note(job, "end");
  return payload.token;
};

const nap = async ({ seconds, again_seconds: again }, job) => {
  const time = job.fence > 1 && again > 0 ? again : seconds;
  await sleep(time * 1000, null, { signal: job.signal });
};

export default {
  quick: effects(async () => {}),
  slow: effects(nap),
  slow_at_first: effects(nap),
  fails_once: effects(async (payload, job) => {
    if (job.attempt === 1) throw new Error("the first attempt fails");
  }),
};
