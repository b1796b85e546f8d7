import { createHash } from "node:crypto";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { random } from "../src/random.ts";
import { build, pare, removeBuild, start, workplace } from "../test/cli.ts";
import { record } from "./document.ts";

/*
 * Does training that is killed and started again end in the same bytes? Runs `pare train` once undisturbed, and once
 * killed at random moments and started again each time.
 * `npx tsx bench/resume.ts [kills] [seed]`, 5 kills by default.
 */

const [kills = 5, seed = 0] = process.argv.slice(2).map(Number);
const settings = "--arch lenet-5 --input-channels 1 --size 28 --data digits --epochs 12 --batch 64 --quiet";
const extras = "--rate 0.02 --random-crop 2 --rotate 10 --mixup 0.2 --average 0.99 --clip-norm 5";
const command = (output: string, work: string): string[] => [
  "train",
  ...settings.split(" "),
  ...extras.split(" "),
  ...["-o", output, "--work", work],
];

build();
const folder = workplace();
const digest = (name: string): string =>
  createHash("sha256")
    .update(readFileSync(join(folder, name)))
    .digest("hex");
const whole = await pare(command("whole.onnx", "whole"), folder);
if (whole.status !== 0) throw new Error(whole.stderr);
console.error(`undisturbed: ${(whole.ms / 1000).toFixed(1)} s`);

const stream = random(seed);
const moments: number[] = [];
let checkpoints = 0;
for (let i = 0; i < kills; i++) {
  const child = start(command("killed.onnx", "killed"), folder);
  const moment = (whole.ms * stream.next()) / (kills + 1);
  const timer = setTimeout(() => child.kill("SIGKILL"), moment);
  const signal = await new Promise<NodeJS.Signals | null>((done) => child.on("close", (_, by) => done(by)));
  clearTimeout(timer);
  if (signal !== "SIGKILL") throw new Error(`ended before it could be killed, after ${moments.length} kills`);
  moments.push(moment / 1000);
  console.error(`killed after ${(moment / 1000).toFixed(1)} s`);
  if (existsSync(join(folder, "killed", "last.onnx"))) checkpoints++;
}
const last = await pare(command("killed.onnx", "killed"), folder);
if (last.status !== 0) throw new Error(last.stderr);
const same = digest("whole.onnx") === digest("killed.onnx");
rmSync(folder, { recursive: true });
removeBuild();
if (!same) throw new Error("the weights differ");
const seconds = moments.map((s) => s.toFixed(1)).join(", ");
const body = [
  `\`pare train\` (12 epochs of LeNet-5 with augmentation, ${(whole.ms / 1000).toFixed(0)} s undisturbed) killed ${kills} times, ${seconds} s after`,
  `each start, and started again; ${checkpoints} of the kills came after a checkpoint. The final file equals that of the run`,
  "which nothing disturbed, byte for byte.",
].join("\n");
record("resume", "Killed and resumed", "npx tsx bench/resume.ts", body);
console.log(body);
