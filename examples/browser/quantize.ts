/*
 * Quantizes the model that is picked, in the page. Outside this repository the imports are "pare", "pare/web" and
 * "pare/techniques".
 */
import { messageOf } from "../../src/errors.ts";
import { load, runtime, save } from "../../src/platform/web.ts";
import { random } from "../../src/random.ts";
import { type Context, techniques } from "../../src/techniques/index.ts";

const element = <T extends HTMLElement>(id: string): T => document.getElementById(id) as T;
const model = element<HTMLInputElement>("model");
const bits = element<HTMLSelectElement>("bits");
const result = element<HTMLOutputElement>("result");
const download = element<HTMLAnchorElement>("download");

const engine = await runtime({ wasmPaths: new URL("ort/", document.baseURI).href });

async function quantize(file: File): Promise<string> {
  const kept: string[] = [];
  const context: Context = {
    runtime: engine,
    random: random(0),
    log() {},
    progress() {},
    skip: (node, reason) => kept.push(`left as it was: ${node}, ${reason}`),
    show() {},
    signal: new AbortController().signal,
  };
  const graph = await load(file);
  const smaller = await techniques["quantize-weights"]!({ bits: Number(bits.value) }).apply(graph, context);
  await (await engine.open(smaller)).release(); // loads, so it will run
  const blob = await save(smaller);
  URL.revokeObjectURL(download.href);
  download.href = URL.createObjectURL(blob);
  download.download = file.name.replace(/(\.onnx)?$/, `.${bits.value}-bit.onnx`);
  download.hidden = false;
  return [`${file.size} bytes -> ${blob.size} bytes`, ...kept].join("\n");
}

async function update(): Promise<void> {
  const file = model.files?.[0];
  if (!file) return;
  download.hidden = true;
  result.value = "working ...";
  result.value = await quantize(file).catch(messageOf);
}

model.addEventListener("change", update);
bits.addEventListener("change", update);
model.disabled = false;
