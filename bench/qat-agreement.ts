/**
 * Whether what quantization-aware training simulates is what integer kernels compute: networks are trained for some steps with
 * batch normalization on its own, then the simulation, the file that is handed out, and the same file in float arithmetic are
 * run on test images.
 * `PARE_DATA=FOLDER npx tsx bench/qat-agreement.ts [MODEL...]`; recorded when all models run. PARE_THREADS spares cores.
 */
import { runtime } from "../src/platform/node.ts";
import type { Tensors } from "../src/platform/runtime.ts";
import { type Agreement, agreement, outputSteps } from "../src/techniques/quantize-aware-train/check.ts";
import { settle } from "../src/techniques/quantize-aware-train/export.ts";
import { options as schema } from "../src/techniques/quantize-aware-train/options.ts";
import { outcomeOf } from "../src/techniques/quantize-aware-train/outcome.ts";
import { testContext } from "../src/techniques/testing.ts";
import { record, table } from "./document.ts";
import { dataFolder, openZoo, zoo } from "./zoo.ts";

const networks = ["resnet8", "resnet20"];
const widths = [8, 4, 2] as const;
const steps = 60;
const batch = 64;
const trainingImages = 50_000;
const testImages = 2000;
/** Test images of a run. */
const together = 50;

const data = dataFolder();
const onnx = await runtime(process.env.PARE_THREADS ? { threads: Number(process.env.PARE_THREADS) } : {});
const context = testContext(onnx);
const plain = {
  ...context,
  runtime: { ...onnx, open: (model, o) => onnx.open(model, { ...o, optimize: "disabled" }) },
} satisfies typeof context;

const percent = (share: number | undefined): string => (share === undefined ? "-" : `${(100 * share).toFixed(2)} %`);
const cells = ({ same, within, steps: most }: Agreement): string[] => [
  percent(same),
  percent(within),
  most === undefined ? "-" : most.toPrecision(2),
];

const wanted = process.argv.slice(2);
const rows: string[][] = [];
for (const name of wanted.length > 0 ? wanted : networks) {
  const model = zoo.find((each) => each.name === name)!;
  const { graph, dataset } = await openZoo(model, data, onnx);
  const feeds: Tensors[] = [];
  for await (const { inputs } of dataset.batches({ split: "test", batch: together, limit: testImages }))
    feeds.push(inputs);
  for (const bits of widths) {
    const options = schema.parse({
      weightBits: bits,
      activationBits: bits,
      batch,
      epochs: (steps * batch) / trainingImages,
      holdOut: 0,
    });
    const { forms, job, trained, learned, settled, written } = (await outcomeOf(graph, options, {
      ...context,
      data: dataset,
    }))!;
    const near = await settle(forms, job.simulation, trained, job.sitesOf, context);
    const row = async (label: string, a: typeof graph, b: typeof graph, where = context): Promise<void> => {
      const scale = outputSteps(settled, job.plan, job.simulation, learned);
      rows.push([`${name}, ${bits} bits`, label, ...cells(await agreement(a, b, feeds, scale, where))]);
      console.log(rows.at(-1)!.join(" | "));
    };
    await row("simulation, integer kernels", learned, written);
    await row("the same, steps as training left them", trained, job.write(near, trained));
    await row("simulation, the file in float arithmetic", learned, written, plain);
  }
}

const header = [
  "network, weights and activations",
  "compared",
  "same class",
  "within a step",
  "largest difference, steps",
];
const body = `Trained for ${steps} steps of ${batch} images with the command's defaults, batch normalization on its own, the first and last layer in 8 bits;
compared on ${testImages} test images of CIFAR-10, which decide nothing here. A step is what a step of what the last layer reads makes
at that layer's largest weight. The simulation is the trained graph itself, its convolutions and sums in float32; integer kernels
are those of ONNX Runtime; "float arithmetic" is the file that is handed out with the runtime's optimizations off, as a backend
without integer kernels runs it.

${table(header, rows)}`;
if (wanted.length === 0)
  record("qat-agreement", "What was trained and what runs", "PARE_DATA=FOLDER npx tsx bench/qat-agreement.ts", body);
else console.log(body);
