/**
 * Damaged and hostile model files. Usage: npx tsx bench/hostile.ts [COUNT] [SEED] [FOLDER...]
 *
 * COUNT mutations (100,000 by default) of small models, and of the files up to 64 KiB below the folders, each loaded from
 * disk, checked, printed, written and read again. Each must end in an error for the user or a model that survives: no
 * crash, no hang, memory under 1 GB, and never a byte from outside the model's folder.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { messageOf, PareError } from "../src/errors.ts";
import { readOnnx } from "../src/formats/onnx/index.ts";
import { memorySource } from "../src/formats/source.ts";
import type { Graph } from "../src/graph/graph.ts";
import { load } from "../src/platform/node.ts";
import { random } from "../src/random.ts";
import { mutate, seedModels, survive } from "../test/mutate.ts";
import { record } from "./document.ts";
import { modelFiles } from "./models.ts";

const slowest = 10_000;
const canary = "outside the model's folder";

/** Files as a model loader meets them: a folder with the model, and a secret beside that folder. */
function makeFolder(): { root: string; model: string } {
  const root = mkdtempSync(join(tmpdir(), "hostile-"));
  mkdirSync(join(root, "model", "a"), { recursive: true });
  writeFileSync(join(root, "secret"), canary.repeat(1000));
  symlinkSync("..", join(root, "model", "link"));
  return { root, model: join(root, "model", "model.onnx") };
}

function leaks(graph: Graph): boolean {
  return [...graph.weights.values()].some((w) => !w.strings && Buffer.from(w.bytes()).includes(canary));
}

async function loadFrom(path: string, bytes: Uint8Array): Promise<Graph | PareError> {
  writeFileSync(path, bytes);
  try {
    return await load(path);
  } catch (error) {
    if (error instanceof PareError) return error;
    throw error;
  }
}

async function main(count: number, seed: number, folders: readonly string[]): Promise<void> {
  const files = modelFiles(folders).filter((path) => statSync(path).size < 65_536);
  const seeds = [...seedModels(), ...files.map((path) => new Uint8Array(readFileSync(path)))];
  const generator = random(seed);
  const folder = makeFolder();
  const counts = { refused: 0, invalid: 0, valid: 0 };
  const failures: { mutation: number; why: string }[] = [];
  let slow = 0;
  try {
    for (let i = 0; i < count; i++) {
      const once = mutate(seeds[generator.int(seeds.length)]!, seeds, generator);
      const bytes = generator.int(3) === 0 && once.length > 0 ? mutate(once, seeds, generator) : once;
      const began = performance.now();
      try {
        const external = Buffer.from(bytes).includes("location");
        const loaded = external ? await loadFrom(folder.model, bytes) : readOnnxOrError(bytes);
        if (loaded instanceof PareError) counts.refused += 1;
        else if (external && leaks(loaded)) throw new Error("it read a file outside the model's folder");
        else counts[survive(bytes, () => loaded)] += 1;
      } catch (error) {
        if (failures.length < 20) failures.push({ mutation: i, why: messageOf(error) });
      }
      slow = Math.max(slow, performance.now() - began);
      if (slow > slowest) failures.push({ mutation: i, why: `it took ${Math.round(slow)} ms` });
    }
  } finally {
    rmSync(folder.root, { recursive: true, force: true });
  }
  const peak = process.resourceUsage().maxRSS / 1e6;
  if (peak > 1) failures.push({ mutation: -1, why: `peak memory ${peak.toFixed(2)} GB` });
  console.log(JSON.stringify({ bench: "hostile", count, seed, models: seeds.length, ...counts, slow, peak, failures }));
  const result = [
    `${count} mutations (bit flips, truncation, spliced fields, lying lengths, cycles, paths out of the folder) of`,
    `${seeds.length} models, seed ${seed}: ${counts.refused} refused with an error, ${counts.invalid} told invalid, ${counts.valid} valid,`,
    `**${failures.length} crashes, hangs or leaks**. Slowest ${slow.toFixed(0)} ms, peak memory ${peak.toFixed(2)} GB.`,
  ].join("\n");
  if (count >= 100_000) record("hostile", "Hostile files", "npx tsx bench/hostile.ts", result);
  console.log(
    `| hostile files | ${count} mutations of ${seeds.length} models | ${counts.refused} refused, ${counts.invalid} told invalid, ` +
      `${counts.valid} valid, ${failures.length} failures | slowest ${slow.toFixed(0)} ms, peak memory ${peak.toFixed(2)} GB |`,
  );
  process.exitCode = failures.length > 0 ? 1 : 0;
}

function readOnnxOrError(bytes: Uint8Array): Graph | PareError {
  try {
    return readOnnx(memorySource(bytes));
  } catch (error) {
    if (error instanceof PareError) return error;
    throw error;
  }
}

const [count = "100000", seed = "1", ...folders] = process.argv.slice(2);
await main(Number(count), Number(seed), folders);
