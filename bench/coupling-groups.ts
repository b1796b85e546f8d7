/**
 * Does pare find at least the groups that Torch-Pruning finds in the same networks?
 * `PARE_PYTHON_TORCH=python npx tsx bench/coupling-groups.ts`, the Python with torch and torch-pruning.
 */
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { syntheticFeeds } from "../src/data/synthetic.ts";
import { edit } from "../src/graph/edit.ts";
import { type Graph, makeGraph } from "../src/graph/graph.ts";
import { runtime } from "../src/platform/node.ts";
import { observeTypes } from "../src/platform/observe.ts";
import { couplings } from "../src/pruning/couplings.ts";
import { random } from "../src/random.ts";
import { architectures } from "../src/training/architectures/index.ts";
import { record, table } from "./document.ts";
import { randomWeight, resnet50 } from "./networks.ts";

/** A DenseNet with bottlenecks, as the peer's script has it. */
function denseNet(growth = 12, layers = 4, blocks = 3): Graph {
  const image = { name: "image", type: { kind: "tensor", dtype: "float32", shape: ["batch", 3, 32, 32] } } as const;
  const output = { name: "logits", type: { kind: "tensor", dtype: "float32" } } as const;
  return edit(makeGraph({ nodes: [], inputs: [image], outputs: [output] }), (draft) => {
    let seed = 0;
    const weight = (...shape: number[]): string => draft.constant("w", randomWeight(shape, 0.1, seed++));
    const conv = (x: string, from: number, to: number, kernel: number): string => {
      const pad = (kernel - 1) / 2;
      return draft.emit("Conv", [x, weight(to, from, kernel, kernel)], { pads: [pad, pad, pad, pad] });
    };
    const norm = (x: string, channels: number): string => {
      const statistics = Array.from({ length: 4 }, () => weight(channels));
      return draft.emit("Relu", [draft.emit("BatchNormalization", [x, ...statistics])]);
    };
    let channels = 2 * growth;
    let x = conv("image", 3, channels, 3);
    for (let block = 0; block < blocks; block++) {
      for (let layer = 0; layer < layers; layer++) {
        const narrow = conv(norm(x, channels), channels, 4 * growth, 1);
        x = draft.emit("Concat", [x, conv(norm(narrow, 4 * growth), 4 * growth, growth, 3)], { axis: 1 });
        channels += growth;
      }
      if (block === blocks - 1) continue;
      const half = conv(norm(x, channels), channels, channels / 2, 1);
      x = draft.emit("AveragePool", [half], { kernel_shape: [2, 2], strides: [2, 2] });
      channels /= 2;
    }
    const pooled = draft.emit("Flatten", [draft.emit("GlobalAveragePool", [norm(x, channels)])]);
    draft.emit("Gemm", [pooled, weight(10, channels), weight(10)], { transB: 1 }, ["logits"]);
  });
}

const built = (name: string, options: object): Graph => {
  const { options: schema, build } = architectures[name]!;
  return build(schema.parse(options), random(1));
};

const networks: Readonly<Record<string, readonly [make: () => Graph, options: object]>> = {
  resnet20: [() => built("resnet20", {}), {}],
  resnet50: [resnet50, { size: 64 }],
  "mobilenet-v2": [() => built("mobilenet-v2", { size: 64 }), { size: 64, classes: 10 }],
  densenet: [denseNet, {}],
  vit: [() => built("vit", {}), {}],
};

const python = process.env.PARE_PYTHON_TORCH;
if (!python) throw new Error("coupling-groups: PARE_PYTHON_TORCH must name a Python with torch and torch-pruning");
const script = fileURLToPath(new URL("peers/couplings.py", import.meta.url));
const node = await runtime({ threads: 1 });
const rows: (readonly (string | number)[])[] = [];
let version = "";
for (const [name, [make, options]] of Object.entries(networks)) {
  const graph = make();
  const { groups } = couplings(graph, await observeTypes(graph, node, syntheticFeeds(graph, random(1))));
  const ours = groups.filter(({ frozen }) => frozen === undefined);
  const printed = execFileSync(python, [script, name, JSON.stringify(options)], { encoding: "utf8" });
  const theirs = JSON.parse(printed) as { version: string; groups: number[] };
  version = theirs.version;
  const units = (counts: readonly number[]): number => counts.reduce((a, b) => a + b, 0);
  rows.push([name, ours.length, units(ours.map((group) => group.units)), theirs.groups.length, units(theirs.groups)]);
  console.error(rows.at(-1)!.join(" | "));
  if (ours.length < theirs.groups.length) process.exitCode = 1;
}
const header = ["network", "groups", "units", "Torch-Pruning's groups", "their units"];
const body = `Groups of units that can be cut, without the classifier, in the same networks: pare's and those of Torch-Pruning ${version}. In residual networks with padded shortcuts pare cuts the channels of each width on their own; in attention whole heads and their width, where Torch-Pruning has one group of all rows.\n\n${table(header, rows)}`;
record(
  "coupling-groups",
  "Groups beside Torch-Pruning",
  "PARE_PYTHON_TORCH=python npx tsx bench/coupling-groups.ts",
  body,
);
