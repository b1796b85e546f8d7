import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, rmSync, watch } from "node:fs";
import { join } from "node:path";
import { load } from "../src/platform/node.ts";
import { random } from "../src/random.ts";
import { build, pare, removeBuild, start, workplace } from "../test/cli.ts";
import { record } from "./document.ts";

/*
 * Is a partial output ever visible, or an input changed, when a run is killed? Kills one command half the times at random
 * moments of its course, and half the times while it writes: up to 40 ms after its temporary file has appeared.
 * `npx tsx bench/kill.ts [times] [seed]`, 50 times by default.
 */

const [times = 50, seed = 0] = process.argv.slice(2).map(Number);
const command = ["quantize-weights", "digits/model.onnx", "-o", "out.onnx"];
const stream = random(seed);
build();
const folder = workplace();
const model = join(folder, "digits", "model.onnx");
const digest = (path: string): string => createHash("sha256").update(readFileSync(path)).digest("hex");
const before = digest(model);
const whole = await pare(command, folder);
const expected = digest(join(folder, "out.onnx"));
const counts = { absent: 0, whole: 0, leftovers: 0 };

for (let i = 0; i < times; i++) {
  rmSync(join(folder, "out.onnx"), { force: true });
  const child = start(command, folder);
  const ended = new Promise<void>((done) => child.on("close", () => done()));
  const kill = (): void => void child.kill("SIGKILL");
  const moment = stream.next();
  const watched = watch(folder, (_, name) => {
    if (i % 2 === 1 && name?.startsWith(".pare-")) setTimeout(kill, moment * 40);
  });
  const timer = i % 2 === 0 ? setTimeout(kill, moment * whole.ms) : undefined;
  await ended;
  watched.close();
  clearTimeout(timer);
  if (digest(model) !== before) throw new Error("the input was changed");
  if (existsSync(join(folder, "out.onnx"))) {
    if (digest(join(folder, "out.onnx")) !== expected) throw new Error("a partial output is visible");
    await load(join(folder, "out.onnx"));
    counts.whole++;
  } else counts.absent++;
}
const names = readdirSync(folder);
counts.leftovers = names.filter((name) => name.startsWith(".pare-")).length;
const strange = names.filter((name) => !name.startsWith(".pare-") && !["digits", "out.onnx"].includes(name));
if (strange.length > 0) throw new Error(`left behind: ${strange.join(", ")}`);
rmSync(folder, { recursive: true });
removeBuild();
const body = [
  `One command killed ${times} times, half at random moments of its course and half while it writes (seed ${seed}): the output was`,
  `absent ${counts.absent} times and whole ${counts.whole} times, never partial; the input was intact every time. ${counts.leftovers} hidden temporary`,
  "files stayed behind, which nothing mistakes for a model.",
].join("\n");
record("kill", "Killed at any moment", "npx tsx bench/kill.ts", body);
console.log(`killed ${times} times within ${Math.round(whole.ms)} ms: ${JSON.stringify(counts)}, input intact`);
