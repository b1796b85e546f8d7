/**
 * Does every model survive being read and written? Usage: npx tsx bench/roundtrip.ts FOLDER...
 *
 * For each .onnx file: the written message must say what the read one said (compared message by message, independently of
 * pare's own graph); writing what was written must give the same bytes; and where ONNX Runtime runs the file, the written
 * one must give the same outputs, bit by bit. Models that give different outputs from run to run are told apart.
 */
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { fromBinary } from "@bufbuild/protobuf";
import { ModelProtoSchema } from "onnx-buf";
import { messageOf } from "../src/errors.ts";
import { encodeOnnx, readOnnx } from "../src/formats/onnx/index.ts";
import { memorySource } from "../src/formats/source.ts";
import { runtime } from "../src/platform/node.ts";
import type { Runtime } from "../src/platform/runtime.ts";
import { meaning } from "../test/onnx-meaning.ts";
import { record } from "./document.ts";
import { distance, feedsOf, modelFiles, outputsOf } from "./models.ts";

type Verdict =
  | { readonly run: "same outputs" | "not run by ONNX Runtime" | "random outputs" }
  | { readonly failure: string };

async function check(path: string, ort: Runtime): Promise<Verdict> {
  const original = readFileSync(path);
  const open = (location: string) => memorySource(readFileSync(join(dirname(path), location)), location);
  const graph = readOnnx(memorySource(original, path), open);
  const written = encodeOnnx(graph);
  const said = meaning(fromBinary(ModelProtoSchema, original));
  const external = JSON.stringify(said).includes('"externalData"');
  if (!external && !isDeepStrictEqual(meaning(fromBinary(ModelProtoSchema, written)), said)) {
    return { failure: "the written message says something else" };
  }
  if (Buffer.compare(encodeOnnx(readOnnx(memorySource(written))), written) !== 0) {
    return { failure: "a second round gives other bytes" };
  }
  let feeds: ReturnType<typeof feedsOf>;
  try {
    feeds = feedsOf(path, graph);
  } catch {
    return { run: "not run by ONNX Runtime" };
  }
  const before = await outputsOf(ort, external ? graph : original, feeds);
  if (typeof before === "string") return { run: "not run by ONNX Runtime" };
  const after = await outputsOf(ort, written, feeds);
  if (typeof after === "string") return { failure: `ONNX Runtime runs it no more: ${after}` };
  if (distance(before, after) === 0) return { run: "same outputs" };
  const again = await outputsOf(ort, external ? graph : original, feeds);
  const random = typeof again !== "string" && distance(before, again) > 0;
  return random ? { run: "random outputs" } : { failure: `its outputs differ by ${distance(before, after)}` };
}

async function main(folders: readonly string[]): Promise<void> {
  const ort = await runtime({ threads: 1 });
  const counts: Record<string, number> = { "same outputs": 0, "random outputs": 0, "not run by ONNX Runtime": 0 };
  const failures: { path: string; why: string }[] = [];
  const files = modelFiles(folders);
  for (const path of files) {
    try {
      const verdict = await check(path, ort);
      if ("failure" in verdict) failures.push({ path, why: verdict.failure });
      else counts[verdict.run]! += 1;
    } catch (error) {
      failures.push({ path, why: messageOf(error) });
    }
  }
  console.log(JSON.stringify({ bench: "roundtrip", files: files.length, ...counts, failures }));
  const survived = ((100 * (files.length - failures.length)) / files.length).toFixed(2);
  console.log(
    `| read, write, re-read | ${files.length} models | ${survived} % equal | ${counts["same outputs"]} with the same outputs, ` +
      `${counts["random outputs"]} random by nature, ${counts["not run by ONNX Runtime"]} not run by ONNX Runtime |`,
  );
  const body = [
    `${files.length} models: ${survived} % read, write and re-read to equality, message by message; of those that ONNX Runtime`,
    `runs here, ${counts["same outputs"]} give bit-identical outputs afterwards, ${counts["random outputs"]} are random by nature, ${failures.length} fail.`,
    `${counts["not run by ONNX Runtime"]} are not run: the runtime refuses them, or their inputs or outputs can't be passed from JavaScript.`,
  ].join("\n");
  record("roundtrip", "Lossless reading and writing", "npx tsx bench/roundtrip.ts FOLDER...", body);
  process.exitCode = failures.length > 0 ? 1 : 0;
}

if (process.argv.length < 3) {
  console.error("roundtrip: name at least one folder of .onnx files");
  process.exitCode = 1;
} else await main(process.argv.slice(2));
