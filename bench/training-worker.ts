/**
 * pare's side of training-speed.ts, a process of its own: trains as `pare train` does, on one batch of noise.
 * Its argument is the row as JSON; lines {"steps": n} on stdin let it do n steps, whose times it prints.
 */
import { createInterface } from "node:readline";
import type { Batch, BatchOptions, Dataset } from "../src/data/dataset.ts";
import { messageOf } from "../src/errors.ts";
import { runtime } from "../src/platform/node.ts";
import { random } from "../src/random.ts";
import { float32, int64, type Tensor } from "../src/tensor/tensor.ts";
import { architectures } from "../src/training/architectures/index.ts";
import { finetune } from "../src/training/finetune.ts";
import type { Task } from "./training-speed.ts";

const { arch, options, batch, training, threads, warmup } = JSON.parse(process.argv[2]!) as Task;
const cpu = await runtime({ threads });
const network = architectures[arch]!.build(options, random(0));
const say = (message: object): void => void process.stdout.write(`${JSON.stringify(message)}\n`);

function noise(): { input: Tensor; labels: Tensor } {
  const stream = random(1);
  const classes = (count: number, shape: readonly number[]): Tensor => {
    const size = shape.reduce((a, b) => a * b, 1);
    return int64(
      Array.from({ length: size }, () => stream.int(count)),
      shape,
    );
  };
  const { length, vocabulary, size, classes: labels } = options;
  if (length !== undefined && vocabulary !== undefined)
    return { input: classes(vocabulary, [batch, length]), labels: classes(vocabulary, [batch, length]) };
  const shape = [batch, 3, size!, size!];
  const pixels = Float32Array.from({ length: batch * 3 * size! ** 2 }, () => stream.normal());
  return { input: float32(shape, pixels), labels: classes(labels!, [batch]) };
}

const times: number[] = [];
let last = 0;
let wanted = warmup;
let more = (): void => {};

/** The same batch for ever; after the first one, as many as were asked for. */
async function* batches({ limit = Number.POSITIVE_INFINITY }: BatchOptions): AsyncGenerator<Batch> {
  const { input, labels } = noise();
  const only = { inputs: { [network.inputs[0]!.name]: input }, labels, size: batch };
  if (limit <= batch) return yield only;
  for (;;) {
    for (; wanted > 0; wanted--) yield only;
    await new Promise<void>((resolve) => {
      more = resolve;
    });
  }
}

const data: Dataset = { name: "noise", splits: ["train"], size: () => batch * 1e9, batches };
let pending = warmup;
createInterface({ input: process.stdin })
  .on("line", (line) => {
    pending = (JSON.parse(line) as { steps: number }).steps;
    wanted = pending;
    last = performance.now();
    more();
  })
  .on("close", () => process.exit(0));

let warm = false;
await finetune(network, training, {
  runtime: cpu,
  data,
  progress() {
    const now = performance.now();
    times.push(now - last);
    last = now;
    if (times.length < pending) return;
    say(warm ? { ms: times } : { ready: cpu.name });
    warm = true;
    times.length = 0;
  },
}).catch((error: unknown) => say({ error: messageOf(error) }));
