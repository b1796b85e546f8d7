// What the JavaScript peers of training-speed.ts share: packages from elsewhere, noise, and answering to the bench.
import { createRequire } from "node:module";
import { resolve } from "node:path";
import { createInterface } from "node:readline";

/** Where a package's file lies below the folder that PARE_PEERS names. */
export const resolvePeer = (name) => createRequire(resolve(process.env.PARE_PEERS, "peers.js")).resolve(name);

/** The task, as training-speed.ts gives it. */
export const task = JSON.parse(process.argv[2]);

/** Normal numbers, by Box and Muller over a linear congruential generator. */
export function noise(length, deviation = 1) {
  let state = 1;
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 1) / 2 ** 32;
  };
  return Float32Array.from(
    { length },
    () => deviation * Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()),
  );
}

/** Rows of zeros with a one: the labels of a batch. */
export function labels(batch, classes) {
  const rows = new Float32Array(batch * classes);
  for (let i = 0; i < batch; i++) rows[i * classes + (i % classes)] = 1;
  return rows;
}

/** Channels in, channels out and stride of ResNet-20's blocks. */
export const blocks = [0, 1, 2].flatMap((stage) =>
  [0, 1, 2].map((block) => {
    const first = stage > 0 && block === 0;
    const out = 16 << stage;
    return { name: `layer${stage + 1}.${block}`, from: first ? out / 2 : out, to: out, stride: first ? 2 : 1 };
  }),
);

const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);

/** Makes the step, warms up, then takes as many steps as each line asks for. */
export async function serve(make) {
  try {
    const { name, step } = await make();
    const timed = async (count) => {
      const times = [];
      for (let i = 0; i < count; i++) {
        const start = performance.now();
        const loss = await step();
        if (!Number.isFinite(loss)) throw new Error(`the loss is ${loss}`);
        times.push(performance.now() - start);
      }
      return times;
    };
    await timed(task.warmup);
    say({ ready: name });
    for await (const line of createInterface({ input: process.stdin }))
      say({ ms: await timed(JSON.parse(line).steps) });
  } catch (error) {
    say({ error: String(error?.message ?? error) });
  }
  process.exit(0);
}
